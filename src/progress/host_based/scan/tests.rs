//! Scans of made-up process tables.

use super::cursor::LATE_FOLDER;
use super::*;
use crate::progress::Users;
use crate::progress::tests::fake_host::Fake;

async fn scan(table: &mut Table, fake: &Fake) -> Scan {
    let roots = fake.roots();
    table
        .scan(&BoundedReads::new(&roots.proc), &roots)
        .await
        .unwrap()
}

fn pids(scan: &Scan) -> Vec<Pid> {
    let mut pids: Vec<Pid> = scan.found.iter().map(|found| found.dd.id.pid).collect();
    pids.sort_unstable();
    pids
}

#[tokio::test]
async fn only_dd_itself_is_found_and_never_its_wrappers() {
    let fake = Fake::new();
    let command = ["dd", "if=/dev/vg/a", "of=/dev/vg/b"];
    for (pid, wrapper) in [
        (2, "sudo"),
        (3, "cinder-rootwrap"),
        (4, "ionice"),
        (5, "cgexec"),
        (6, "busybox"),
    ] {
        let mut line = vec![wrapper];
        line.extend(command);
        fake.process(pid, wrapper).arguments(&line);
    }
    fake.dd(7, "/dev/vg/a", "/dev/vg/b", 4096);
    let scan = scan(&mut Table::default(), &fake).await;
    assert_eq!(pids(&scan), [7]);
    assert_eq!(scan.found[0].written.unwrap().position, 4096);
    assert_eq!(scan.trouble, None);
}

#[tokio::test]
async fn the_command_line_of_others_is_never_read() {
    let fake = Fake::new();
    fake.process(2, "sudo").file("cmdline", "");
    fake.remove("proc/2/cmdline");
    std::fs::create_dir(fake.path("proc/2/cmdline")).unwrap();
    let scan = scan(&mut Table::default(), &fake).await;
    assert_eq!(
        scan.trouble, None,
        "a folder for a command line would have been an error"
    );
}

#[tokio::test]
async fn a_dd_is_understood_once_and_then_only_recognised() {
    let fake = Fake::new();
    fake.dd(7, "/dev/vg/a", "/dev/vg/b", 0);
    let mut table = Table::default();
    assert_eq!(pids(&scan(&mut table, &fake).await), [7]);
    let again = scan(&mut table, &fake).await;
    assert!(pids(&again).is_empty());
    assert!(again.alive.contains(&ProcessId { start: 7, pid: 7 }));
    fake.end(7);
    assert!(scan(&mut table, &fake).await.alive.is_empty());
}

#[tokio::test]
async fn a_young_process_that_becomes_dd_is_noticed() {
    let fake = Fake::new();
    fake.process(7, "cinder-rootwrap");
    let mut table = Table::default();
    assert!(pids(&scan(&mut table, &fake).await).is_empty());
    fake.dd(7, "/dev/vg/a", "/dev/vg/b", 0);
    assert_eq!(pids(&scan(&mut table, &fake).await), [7]);
}

#[tokio::test]
async fn an_old_process_is_looked_at_ever_more_seldom() {
    let mut table = Table::default();
    let begun = Instant::now();
    let mut looks = Vec::new();
    for second in 0..7200 {
        let now = begun + Duration::from_secs(second);
        table.observe(7, 70, now, Some(begun));
        if table.take_due(now) == [7] {
            let not_dd = Ok(Seen::NotDd { copier: Copier::No });
            table.note(7, not_dd, now, &mut Scan::default());
            looks.push(second);
        }
    }
    assert_eq!(looks[..11], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let pauses: Vec<u64> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let late = |(pause, &at): (&u64, &u64)| pause * 4 > at + 4;
    assert!(!pauses.iter().zip(&looks[1..]).any(late), "{looks:?}");
    assert!(pauses.contains(&SECOND_LOOK.as_secs()), "{looks:?}");
    assert!(looks.len() < 50, "{looks:?}");
}

#[tokio::test]
async fn who_was_there_before_is_looked_at_once_and_another_inode_means_once_more() {
    let mut table = Table::default();
    let now = Instant::now();
    let mut due = |inode, after: u64| {
        let now = now + Duration::from_secs(after);
        table.observe(7, inode, now, None);
        let due = table.take_due(now) == [7];
        let not_dd = Ok(Seen::NotDd { copier: Copier::No });
        table.note(7, not_dd, now, &mut Scan::default());
        due
    };
    assert!(due(70, 0));
    assert!(!due(70, 1));
    assert!(due(71, 2));
    assert!(!due(71, 3));
}

#[tokio::test]
async fn of_those_there_before_only_the_last_born_are_young() {
    let fake = Fake::new();
    fake.process(1, "systemd");
    fake.process(2, "sudo");
    fake.process(5000, "sudo");
    last_born(&fake, 5000);
    let mut table = Table::default();
    scan(&mut table, &fake).await;
    fake.dd(2, "/dev/vg/a", "/dev/vg/b", 0);
    fake.dd(5000, "/dev/vg/a", "/dev/vg/b", 0);
    assert_eq!(pids(&scan(&mut table, &fake).await), [5000]);
}

/// Makes the kernel's word on the last process id part of the made-up tree.
fn last_born(fake: &Fake, pid: Pid) {
    fake.link("proc/self", &std::process::id().to_string());
    fake.write("proc/loadavg", &format!("0.00 0.00 0.00 1/9 {pid}\n"));
}

/// A table that has listed all, and takes the kernel's word for who is born after the process 2.
async fn settled(fake: &Fake) -> Table {
    fake.process(1, "systemd");
    let mut table = Table::default();
    for last in [1, 1, 2, 2] {
        if last == 2 {
            fake.process(2, "bash");
        }
        last_born(fake, last);
        scan(&mut table, fake).await;
        tokio::time::advance(LATE_FOLDER).await;
    }
    assert!(table.proved);
    table
}

#[tokio::test(start_paused = true)]
async fn a_newborn_with_the_id_of_one_that_ended_unseen_is_young() {
    // The next id; one of many that were born at once; one born after ids had begun anew.
    for (before, last) in [(4, 5), (4, 1000), (32_000, 5)] {
        let fake = Fake::new();
        let mut table = settled(&fake).await;
        fake.process(5, "bash");
        last_born(&fake, before);
        for _ in 0..3 {
            scan(&mut table, &fake).await;
            tokio::time::advance(NEW_PROCESS_WINDOW * 10).await;
        }
        table.observe(5, fake.inode("proc/5"), Instant::now(), None);
        // Aside, so that its folder's inode is not given to the next.
        std::fs::rename(fake.path("proc/5"), fake.path("ended")).unwrap();
        fake.process(5, "sudo");
        last_born(&fake, last);
        assert!(pids(&scan(&mut table, &fake).await).is_empty());
        tokio::time::advance(NEW_PROCESS_WINDOW / 2).await;
        fake.dd(5, "/dev/vg/a", "/dev/vg/b", 0);
        assert_eq!(pids(&scan(&mut table, &fake).await), [5], "{before} {last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_comes_after_its_id_is_found_however_close_scans_are() {
    let fake = Fake::new();
    let mut table = settled(&fake).await;
    // Ids are given out at all moments between two marks of the cursor.
    let (mut pid, step) = (2, LATE_FOLDER / 10);
    for _ in 0..31 {
        pid += 1;
        last_born(&fake, pid);
        for _ in 0..9 {
            assert!(pids(&scan(&mut table, &fake).await).is_empty());
            tokio::time::advance(step).await;
        }
        fake.dd(pid, "/dev/vg/a", "/dev/vg/b", 0);
        assert_eq!(pids(&scan(&mut table, &fake).await), [pid]);
        tokio::time::advance(step / 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_comes_after_the_first_scans_is_found() {
    for (first, later) in [(5, 5), (32_000, 300)] {
        let fake = Fake::new();
        let mut table = settled(&fake).await;
        for last in [first, later] {
            last_born(&fake, last);
            scan(&mut table, &fake).await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        fake.dd(later, "/dev/vg/a", "/dev/vg/b", 0);
        assert_eq!(pids(&scan(&mut table, &fake).await), [later]);
    }
    let fake = Fake::new();
    last_born(&fake, 5);
    let mut table = Table::default();
    scan(&mut table, &fake).await;
    fake.dd(5, "/dev/vg/a", "/dev/vg/b", 0);
    assert_eq!(pids(&scan(&mut table, &fake).await), [5]);
}

#[tokio::test(start_paused = true)]
async fn an_id_is_looked_at_in_every_scan_only_while_it_is_young() {
    let fake = Fake::new();
    let mut table = settled(&fake).await;
    last_born(&fake, 5);
    for _ in 0..3 {
        scan(&mut table, &fake).await;
        tokio::time::advance(LATE_FOLDER).await;
    }
    fake.dd(5, "/dev/vg/a", "/dev/vg/b", 0);
    assert!(pids(&scan(&mut table, &fake).await).is_empty());
    tokio::time::advance(CENSUS).await;
    assert_eq!(pids(&scan(&mut table, &fake).await), [5]);
}

#[tokio::test(start_paused = true)]
async fn between_two_lists_only_the_newborn_are_looked_for() {
    let fake = Fake::new();
    let mut table = settled(&fake).await;
    fake.dd(5, "/dev/vg/a", "/dev/vg/b", 0);
    fake.dd(6, "/dev/vg/a", "/dev/vg/c", 0);
    fake.process(5, "dd")
        .user(0)
        .arguments(&["dd", "if=/dev/vg/a", "of=/dev/vg/b"]);
    fake.write("proc/6/status", "Name:\tdd\nTgid:\t5\n");
    assert!(
        pids(&scan(&mut table, &fake).await).is_empty(),
        "no list was read"
    );
    last_born(&fake, 6);
    let scan_after = scan(&mut table, &fake).await;
    assert_eq!(pids(&scan_after), [5], "6 is a thread of it");
    assert_eq!(scan_after.alive.len(), 1);
    fake.end(5);
    assert!(scan(&mut table, &fake).await.alive.is_empty());
    assert_eq!(table.known.len(), 2, "who is gone is forgotten");
}

#[tokio::test]
async fn all_are_listed_when_ids_begin_anew_and_when_too_many_were_born() {
    for last in [1, 100_000] {
        let fake = Fake::new();
        last_born(&fake, 2);
        let mut table = Table::default();
        scan(&mut table, &fake).await;
        fake.dd(50_000, "/dev/vg/a", "/dev/vg/b", 0);
        last_born(&fake, last);
        assert_eq!(pids(&scan(&mut table, &fake).await), [50_000], "{last}");
    }
}

#[tokio::test]
async fn a_pid_given_away_is_another_dd() {
    let fake = Fake::new();
    fake.dd(7, "/dev/vg/a", "/dev/vg/b", 0);
    let mut table = Table::default();
    scan(&mut table, &fake).await;
    fake.dd(7, "/dev/vg/c", "/dev/vg/d", 0);
    fake.process(7, "dd")
        .start(500)
        .arguments(&["dd", "if=/dev/vg/c", "of=/dev/vg/d"]);
    let again = scan(&mut table, &fake).await;
    assert_eq!(again.found[0].dd.id, ProcessId { start: 500, pid: 7 });
    assert_eq!(again.alive.len(), 1);
}

#[tokio::test]
async fn a_dd_without_a_command_line_yet_is_looked_at_again() {
    let fake = Fake::new();
    fake.process(7, "dd").file("cmdline", "");
    let mut table = Table::default();
    assert!(pids(&scan(&mut table, &fake).await).is_empty());
    fake.dd(7, "/dev/vg/a", "/dev/vg/b", 0);
    assert_eq!(pids(&scan(&mut table, &fake).await), [7]);
}

#[tokio::test]
async fn a_kernel_name_is_traced_when_its_link_comes_late() {
    let fake = Fake::new();
    fake.write("dev/sdb", "");
    fake.dd(7, "/dev/sdb", "/dev/sda", 0);
    let mut table = Table::default();
    assert!(
        !scan(&mut table, &fake).await.found[0]
            .dd
            .source
            .is_resolved()
    );
    fake.link(
        "dev/disk/by-path/ip-1:3260-iscsi-iqn:volume-1-lun-1",
        "../../sdb",
    );
    assert!(
        scan(&mut table, &fake).await.found[0]
            .dd
            .source
            .names_volume("volume-1")
    );
    assert!(scan(&mut table, &fake).await.found.is_empty());
}

#[tokio::test]
async fn hidden_processes_are_trouble() {
    let fake = Fake::new();
    let own = std::process::id();
    fake.write(
        &format!("proc/{own}/mountinfo"),
        "21 1 0:20 / /proc rw - proc proc rw,hidepid=2\n",
    );
    last_born(&fake, 7);
    let mut table = Table::default();
    let trouble = scan(&mut table, &fake).await.trouble;
    assert!(matches!(trouble, Some(ProgressError::Hidden { .. })));
    fake.process(1, "systemd");
    assert_eq!(scan(&mut table, &fake).await.trouble, None);
}

#[tokio::test]
async fn somebody_elses_dd_is_none_and_its_command_line_is_never_read() {
    let fake = Fake::new();
    for (pid, uid) in [(7, 0), (8, 54321), (9, 54322)] {
        fake.dd(pid, "/dev/vg/a", "/dev/vg/b", 0);
        fake.process(pid, "dd").user(uid);
    }
    fake.remove("proc/8/cmdline");
    std::fs::create_dir(fake.path("proc/8/cmdline")).unwrap();
    let mut roots = fake.roots();
    roots.users = Users::and(&[54322].into());
    let command = ["dd", "if=/dev/vg/a", "of=/dev/vg/b"];
    fake.process(7, "dd").arguments(&command);
    fake.process(9, "dd").user(54322).arguments(&command);
    let reads = BoundedReads::new(&roots.proc);
    let scan = Table::default().scan(&reads, &roots).await.unwrap();
    assert_eq!(pids(&scan), [7, 9]);
    assert_eq!(scan.trouble, None);
}

#[tokio::test]
async fn a_missing_proc_is_an_error() {
    let fake = Fake::new();
    let mut roots = fake.roots();
    roots.proc = fake.path("nowhere");
    let error = Table::default()
        .scan(&BoundedReads::new(&roots.proc), &roots)
        .await
        .unwrap_err();
    assert_eq!(error.path(), roots.proc);
}

#[tokio::test]
async fn in_a_container_that_is_told_the_hosts_last_pid_a_dd_is_found_at_the_next_look() {
    let fake = Fake::new();
    for (pid, comm) in [(1, "init"), (240, "cinder-volume"), (300, "sudo")] {
        fake.process(pid, comm);
    }
    last_born(&fake, 3_155_001);
    let mut table = Table::default();
    scan(&mut table, &fake).await;
    fake.dd(301, "/dev/vg/a", "/dev/vg/b", 0);
    last_born(&fake, 3_155_004);
    assert_eq!(pids(&scan(&mut table, &fake).await), [301]);
    // One that was there before, and takes dd's name now.
    fake.dd(300, "/dev/vg/c", "/dev/vg/d", 0);
    assert_eq!(pids(&scan(&mut table, &fake).await), [300]);
    for pid in 302..310 {
        fake.dd(pid, "/dev/vg/a", "/dev/vg/b", 0);
        last_born(&fake, 3_155_004 + 3 * (pid - 301));
        assert_eq!(pids(&scan(&mut table, &fake).await), [pid]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_birth_has_proved_the_kernels_word_all_are_listed() {
    let fake = Fake::new();
    fake.process(2, "bash");
    last_born(&fake, 2);
    let mut table = Table::default();
    for _ in 0..3 {
        scan(&mut table, &fake).await;
        tokio::time::advance(LATE_FOLDER).await;
    }
    last_born(&fake, 7);
    scan(&mut table, &fake).await;
    // Its folder comes after the id that the host gave it.
    fake.dd(50, "/dev/vg/a", "/dev/vg/b", 0);
    assert_eq!(pids(&scan(&mut table, &fake).await), [50]);
    fake.process(8, "bash");
    last_born(&fake, 8);
    scan(&mut table, &fake).await;
    fake.dd(60, "/dev/vg/a", "/dev/vg/b", 0);
    last_born(&fake, 9);
    assert!(
        pids(&scan(&mut table, &fake).await).is_empty(),
        "proved by now"
    );
}
