//! The example of a driver's command for Ceph, with a stand-in that prints what the rbd of Ceph 16.2.15 does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::progress::tests::fake_host::Fake;
use crate::progress::tests::questions::{question, tracker};
use crate::progress::{Answer, CopyMode, DriverCall, Question};

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/packaging/usr/share/doc/cinder-progress/examples/rbd-progress"
);

/// Puts a program called `rbd` into a folder, which knows these images and the bytes that they take.
fn stand_in(folder: &Path, images: &[(&str, &str)]) {
    let mut script = "#!/bin/sh\n[ \"$1 $2 $3 $4 $5 $6\" = 'diff --whole-object --format json --id cinder' ] || exit 9\ncase \"$7\" in\n".to_owned();
    for (image, entries) in images {
        script += &format!("{image}) echo '[{entries}]' ;;\n");
    }
    script += "*) echo 'rbd: error opening image volume-1: (2) No such file or directory' >&2; exit 2 ;;\nesac\n";
    let program = folder.join("rbd");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn entry(used: u64) -> String {
    format!(r#"{{"offset":0,"length":{used},"exists":"true"}}"#)
}

#[tokio::test]
async fn the_used_bytes_of_both_images_are_the_percentage() {
    for (what, source, destination, expected) in [
        (
            "a third",
            Some(entry(900)),
            Some(entry(300)),
            Answer::Percent(33),
        ),
        (
            "nothing yet",
            Some(entry(900)),
            Some(entry(0)),
            Answer::Percent(0),
        ),
        (
            "all, and rounded up by the cluster",
            Some(entry(900)),
            Some(entry(904)),
            Answer::Percent(100),
        ),
        (
            "of several objects",
            Some(format!("{},{}", entry(500), entry(500))),
            Some(entry(500)),
            Answer::Percent(50),
        ),
        ("no image there", Some(entry(900)), None, Answer::Unknown),
        ("no image here", None, Some(entry(300)), Answer::Unknown),
        (
            "an empty one",
            Some(entry(0)),
            Some(entry(0)),
            Answer::Unknown,
        ),
    ] {
        let fake = Fake::new();
        let folder = fake.path("bin");
        fs::create_dir(&folder).unwrap();
        let images = [("volumes/volume-1", source), ("fast/volume-1", destination)];
        let there: Vec<(&str, &str)> = images
            .iter()
            .filter_map(|(image, entries)| Some((*image, entries.as_deref()?)))
            .collect();
        stand_in(&folder, &there);
        let path = format!(
            "PATH={}:{}",
            folder.display(),
            std::env::var("PATH").unwrap()
        );
        let command = [
            "env", &path, "python3", EXAMPLE, "volumes", "fast", "--id", "cinder",
        ];
        let asked = Question {
            mode: CopyMode::DriverBased,
            driver: Some(DriverCall {
                command: command.map(str::to_owned).to_vec(),
                timeout: Duration::from_secs(60),
                input: br#"{"id": "1", "name": "volume-1", "size": 1}"#.to_vec(),
            }),
            ..question()
        };
        assert_eq!(tracker(&fake).answer(asked).await, Ok(expected), "{what}");
    }
}
