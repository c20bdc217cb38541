//! Two migrations of a real node, replayed step by step.
//!
//! The node's processes, devices and volume rows were recorded (Linux 6.1, Debian 12, cinder 21.3, LVM behind tgt). The
//! trees here are built from the record, with its pids and positions.

use std::time::Duration;

use super::fake_host::Fake;
use crate::progress::pace::MAX_EXTRAPOLATION;
use crate::progress::proc::process::Pid;
use crate::progress::{Answer, Question, Tracker};

const SIZE: u64 = 1 << 30;
const VOLUME: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";
const MAPPED_ONE: &str = "/dev/mapper/vg_one-volume--b5012f4a--d256--45a1--8370--86a6dd7e6dde";
const MAPPED_TWO: &str = "/dev/mapper/vg_two-volume--b5012f4a--d256--45a1--8370--86a6dd7e6dde";

fn question(migrating: bool) -> Question {
    Question {
        migrating,
        ..Question::about(VOLUME, &format!("volume-{VOLUME}"), SIZE)
    }
}

fn tracker(fake: &Fake) -> Tracker {
    Tracker::new(fake.roots(), Duration::from_secs(1))
}

async fn ask(tracker: &Tracker, migrating: bool) -> u8 {
    match tracker.answer(question(migrating)).await.unwrap() {
        Answer::Percent(percent) => percent,
        Answer::Unknown => panic!("nothing known"),
    }
}

fn device(fake: &Fake, kernel_name: &str, mapped: &str) {
    fake.write(&format!("dev/{kernel_name}"), "");
    fake.link(
        &format!("dev/mapper/{mapped}"),
        &format!("../{kernel_name}"),
    );
    fake.write(
        &format!("sys/block/{kernel_name}/dm/name"),
        &format!("{mapped}\n"),
    );
    fake.write(
        &format!("sys/block/{kernel_name}/dm/uuid"),
        "LVM-GlSadfFjt5Qu\n",
    );
}

/// Adds a dd with its sudo and rootwrap, as cinder starts it.
fn start(fake: &Fake, wrappers: [Pid; 2], pid: Pid, operands: &str, ends: (&str, &str)) {
    let operands: Vec<&str> = operands.split(' ').collect();
    let mut sudo = vec!["sudo", "cinder-rootwrap", "/etc/cinder/rootwrap.conf", "dd"];
    sudo.extend(&operands);
    fake.process(wrappers[0], "sudo").arguments(&sudo);
    let mut rootwrap = vec![
        "/usr/bin/python3",
        "/usr/bin/cinder-rootwrap",
        "/etc/cinder/rootwrap.conf",
        "dd",
    ];
    rootwrap.extend(&operands);
    fake.process(wrappers[1], "cinder-rootwrap")
        .arguments(&rootwrap);
    let mut dd = vec!["/bin/dd"];
    dd.extend(&operands);
    fake.process(pid, "dd")
        .arguments(&dd)
        .fd(0, ends.0, 0, "0140000")
        .fd(1, ends.1, 0, "0140001")
        .fd(2, "pipe:[6702]", 0, "01");
}

fn end(fake: &Fake, wrappers: [Pid; 2], pid: Pid) {
    for pid in [pid, wrappers[1], wrappers[0]] {
        fake.end(pid);
    }
}

#[tokio::test]
async fn a_host_copy_between_kernel_names_and_the_wipe_after_it() {
    let fake = Fake::new();
    for (pid, comm) in [
        (1, "systemd"),
        (1761, "cinder-volume"),
        (1782, "cinder-volume"),
        (1998, "privsep-helper"),
    ] {
        fake.process(pid, comm);
    }
    device(&fake, "dm-2", MAPPED_ONE.trim_start_matches("/dev/mapper/"));
    device(
        &fake,
        "dm-3",
        "vg_two-volume--3ec92090--6c53--485b--bd26--a2af9ea463f9",
    );
    let tracker = tracker(&fake);
    assert_eq!(ask(&tracker, true).await, 0);

    let links = [
        (
            "ip-10.0.2.15:3260-iscsi-iqn.2010-10.org.openstack:volume-3ec92090-6c53-485b-bd26-a2af9ea463f9-lun-1",
            "sda",
        ),
        (
            "ip-10.0.2.15:3260-iscsi-iqn.2010-10.org.openstack:volume-b5012f4a-d256-45a1-8370-86a6dd7e6dde-lun-1",
            "sdb",
        ),
        ("platform-uml-blkdev.0", "ubda"),
    ];
    for (link, node) in links {
        fake.write(&format!("dev/{node}"), "");
        fake.link(
            &format!("dev/disk/by-path/{link}"),
            &format!("../../{node}"),
        );
    }

    start(
        &fake,
        [2258, 2259],
        2260,
        "if=/dev/sdb of=/dev/null count=1",
        ("/dev/sdb", "/dev/null"),
    );
    assert_eq!(ask(&tracker, true).await, 0, "a probe");
    end(&fake, [2258, 2259], 2260);
    start(
        &fake,
        [2262, 2263],
        2264,
        "count=0 if=/dev/sdb of=/dev/sda iflag=direct",
        ("/dev/sdb", "/dev/sda"),
    );
    assert_eq!(ask(&tracker, true).await, 0, "a probe");
    end(&fake, [2262, 2263], 2264);
    assert_eq!(ask(&tracker, true).await, 0);

    start(
        &fake,
        [2272, 2273],
        2275,
        "if=/dev/sdb of=/dev/sda count=1073741824 bs=1M iflag=count_bytes,direct oflag=direct",
        ("/dev/sdb", "/dev/sda"),
    );
    for (position, percent) in [
        (0, 0),
        (1_048_576, 0),
        (48_234_496, 4),
        (93_323_264, 8),
        (143_654_912, 13),
        (289_406_976, 26),
        (535_822_336, 49),
        (590_348_288, 54),
        (734_003_200, 68),
        (922_746_880, 85),
        (1_025_507_328, 95),
    ] {
        fake.position(2275, position);
        assert_eq!(ask(&tracker, true).await, percent, "at {position}");
    }
    // The replay is faster than the copy was. The pause keeps the last step out of the pace.
    tokio::time::sleep(2 * MAX_EXTRAPOLATION).await;
    end(&fake, [2272, 2273], 2275);
    assert_eq!(ask(&tracker, true).await, 95, "the last that was seen");

    for (link, node) in links {
        fake.remove(&format!("dev/disk/by-path/{link}"));
        fake.remove(&format!("dev/{node}"));
    }
    assert_eq!(
        ask(&tracker, true).await,
        95,
        "found again though its device is detached"
    );

    start(
        &fake,
        [2510, 2512],
        2513,
        &format!(
            "if=/dev/zero of={MAPPED_ONE} count=1073741824 bs=1M iflag=count_bytes oflag=direct"
        ),
        ("/dev/zero", "/dev/dm-2"),
    );
    fake.position(2513, 27_262_976);
    assert_eq!(
        ask(&tracker, false).await,
        100,
        "the old volume is wiped, so the copy was complete"
    );
    end(&fake, [2510, 2512], 2513);
    assert_eq!(ask(&tracker, false).await, 100);
}

#[tokio::test]
async fn lvms_own_migration_whose_two_ends_bear_one_name() {
    let fake = Fake::new();
    device(&fake, "dm-2", MAPPED_ONE.trim_start_matches("/dev/mapper/"));
    device(&fake, "dm-3", MAPPED_TWO.trim_start_matches("/dev/mapper/"));
    let tracker_all_along = tracker(&fake);
    assert_eq!(ask(&tracker_all_along, true).await, 0);

    start(
        &fake,
        [2674, 2675],
        2676,
        &format!(
            "if={MAPPED_TWO} of={MAPPED_ONE} count=1073741824 bs=1M iflag=count_bytes,direct oflag=direct"
        ),
        ("/dev/dm-3", "/dev/dm-2"),
    );
    for (position, percent) in [
        (0, 0),
        (89_128_960, 8),
        (177_209_344, 16),
        (355_467_264, 33),
        (537_919_488, 50),
        (812_646_400, 75),
        (984_612_864, 91),
        (1_072_693_248, 99),
    ] {
        fake.position(2676, position);
        assert_eq!(
            ask(&tracker_all_along, true).await,
            percent,
            "at {position}"
        );
    }
    end(&fake, [2674, 2675], 2676);
    let after = ask(&tracker_all_along, true).await;
    assert!(after >= 99, "{after}: less than the last that was seen");

    start(
        &fake,
        [2761, 2762],
        2763,
        &format!(
            "if=/dev/zero of={MAPPED_TWO} count=1073741824 bs=1M iflag=count_bytes oflag=direct"
        ),
        ("/dev/zero", "/dev/dm-3"),
    );
    fake.position(2763, 226_492_416);
    assert_eq!(
        ask(&tracker_all_along, true).await,
        100,
        "wiping comes after the copy"
    );
    let begun_while_wiping = tracker(&fake);
    assert_eq!(ask(&begun_while_wiping, true).await, 100);
    let asked_when_all_is_over = tracker(&fake);
    assert_eq!(
        ask(&asked_when_all_is_over, false).await,
        0,
        "no migration, no copy seen"
    );

    end(&fake, [2761, 2762], 2763);
    assert_eq!(ask(&tracker_all_along, true).await, 100);
    assert_eq!(ask(&begun_while_wiping, true).await, 100);
}
