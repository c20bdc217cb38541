//! Writes the man pages and the shell completions, from the definitions of the command line itself:
//! `cargo run --example manuals -- FOLDER`.

use std::error::Error;
use std::path::PathBuf;

use cinder_progress::cli::Arguments;
use clap::CommandFactory;
use clap_complete::Shell;

/// The program's file name, which completions are bound to.
const PROGRAM: &str = "cinder-progress";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("usage: manuals FOLDER")?;
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        std::fs::create_dir_all(folder)?;
    }
    clap_mangen::generate_to(Arguments::command(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Arguments::command(), PROGRAM, &completions)?;
    }
    Ok(())
}
