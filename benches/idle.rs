//! What the daemon costs on a node with 5,000 processes: idle, asked about a known copy, and about none.
//!
//! `cargo bench --bench idle` starts the processes, watches for a minute and ends them again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cinder_progress::progress::{Answer, CopyMode, Question, Roots, Tracker};

const PROCESSES: usize = 5_000;
const WATCHED: Duration = Duration::from_secs(60);
const QUESTIONS: u32 = 1_000;

/// Processes that do nothing, in a group of their own.
struct Crowd(Child);

impl Crowd {
    fn start() -> Self {
        let script = format!("for i in $(seq {PROCESSES}); do sleep 600 & done; echo; wait");
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = [0];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut line).unwrap();
        Self(shell)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.0.wait();
    }
}

/// Processor time this process has taken so far.
fn taken() -> Duration {
    let stat = procfs::process::Process::myself().unwrap().stat().unwrap();
    Duration::from_secs_f64((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

fn question(id: &str) -> Question {
    Question {
        mode: CopyMode::HostBased,
        ..Question::about(id, &format!("volume-{id}"), 1 << 40)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let crowd = Crowd::start();
    let tracker = Tracker::new(Roots::default(), Duration::from_secs(1));
    // The first listing looks at everyone, and so do the next, until they are no more young.
    let watch = tokio::spawn(tracker.clone().watch(std::future::pending()));
    tokio::time::sleep(Duration::from_secs(35)).await;

    let (begun, before) = (Instant::now(), taken());
    tokio::time::sleep(WATCHED).await;
    let share = (taken() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("idle: {:.3}% of a core", share * 100.0);

    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = (
        folder.path().join("volume-known"),
        folder.path().join("copy"),
    );
    for file in [&source, &copy] {
        File::create(file).unwrap().set_len(1 << 40).unwrap();
    }
    let mut dd = Command::new("dd")
        .arg(format!("if={}", source.display()))
        .arg(format!("of={}", copy.display()))
        .args(["bs=512", "conv=sparse,notrunc"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while tracker.answer(question("none")).await != Ok(Answer::Percent(0)) {}
    println!("no copy of the volume: {:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..QUESTIONS {
        tracker.answer(question("known")).await.unwrap();
    }
    println!("a known copy: {:?} each", begun.elapsed() / QUESTIONS);
    watch.abort();
    dd.kill().unwrap();
    dd.wait().unwrap();
    drop(crowd);
}
