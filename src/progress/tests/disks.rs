//! Copies of disks of other storage, whose names are vendors' names, numbers, or missing.

use std::time::Duration;

use super::fake_host::Fake;
use super::questions::{SIZE, at, tracker};
use crate::progress::{Answer, CopyMode, Hardware, Question, Tracker};

/// The id of the volume in the questions.
pub(super) const V: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";
/// The id of another volume.
pub(super) const N: &str = "0f1c3a52-7be9-4a54-a3f6-3d8a0c6f9a11";

pub(super) const NAA: &str = "60060e8010049cfd0050060e00000001";

pub(super) const READ: &str = "0100000";
pub(super) const WRITE: &str = "0100001";
pub(super) const TEMPLATE: &str = "volume-%s";

fn question_named(id: &str, template: &str) -> Question {
    Question::about(id, &template.replace("%s", id), SIZE)
}

pub(super) fn question(id: &str) -> Question {
    question_named(id, TEMPLATE)
}

/// The answers in the modes HOST_BASED, FILE_BASED and auto.
async fn answers(fake: &Fake, question: &Question) -> [Answer; 3] {
    let mut answers = [Answer::Unknown; 3];
    for (answer, mode) in
        answers
            .iter_mut()
            .zip([CopyMode::HostBased, CopyMode::FileBased, CopyMode::Auto])
    {
        let asked = Question {
            mode,
            ..question.clone()
        };
        *answer = tracker(fake).answer(asked).await.unwrap();
    }
    answers
}

pub(super) async fn answer(tracker: &Tracker, question: Question) -> Answer {
    tracker.answer(question).await.unwrap()
}

/// Adds a disk of the size of all volumes here, and a link to it below `/dev`.
pub(super) fn disk(fake: &Fake, name: &str, link: &str) -> String {
    fake.write(&format!("dev/{name}"), "");
    fake.write(
        &format!("sys/class/block/{name}/size"),
        &(SIZE / 512).to_string(),
    );
    if !link.is_empty() {
        let up = "../".repeat(link.matches('/').count());
        fake.link(&format!("dev/{link}"), &format!("{up}{name}"));
    }
    format!("/dev/{name}")
}

fn by_path(target: &str) -> String {
    format!("disk/by-path/ip-10.0.2.15:3260-iscsi-{target}-lun-1")
}

pub(super) const FC: &str = "disk/by-path/pci-0000:05:00.2-fc-0x50060e801049cfd1-lun-1";

/// cinder-volume with one file open.
fn opens(fake: &Fake, path: &str, flags: &str) {
    fake.process(7, "cinder-volume").fd(20, path, at(30), flags);
}

#[tokio::test]
async fn a_disk_named_by_a_vendor_after_the_volume_is_the_volumes() {
    for link in [
        by_path(&format!("iqn.2010-10.org.openstack:volume-{V}")),
        by_path(&format!("iqn.2010-10.org.openstackvolume-{V}")),
        by_path(&format!("iqn.2010-01.com.solidfire:ab12.uuid-{V}.77")),
        by_path(&format!("iqn.2001-05.com.equallogic:0-8a0906-8c3-{V}")),
        by_path(&format!("iqn.2007-11.com.nimblestorage:volume-{V}-v44cd1")),
        by_path(&format!("iqn.2003-01.org.x:os-{}", V.to_uppercase())),
        by_path(&format!("iqn.2003-01.org.x:{}", V.replace('-', ""))),
        by_path(&format!("iqn.2003-01.org.x:lun{}", V.replace('-', "."))),
        format!("disk/by-id/scsi-0VENDOR_volume_{}", V.replace('-', "_")),
        format!("disk/by-id/nvme-uuid.{V}"),
        by_path(&format!("iqn.2004-04.com.x:{V}")),
        by_path(&format!("iqn.2004-04.com.x:OS{V}")),
        by_path(&format!("iqn.2004-04.com.x:VOL:{}", V.replace('-', ":"))),
        by_path(&format!(
            "iqn.2004-04.com.x:cinder--{}",
            V.replace('-', "--")
        )),
        format!("disk/by-path/pci-0000:05:00.2-fc-0x50060e80-volume_{V}-lun-1"),
        format!("disk/by-path/ip-10.0.2.15:4420-nvme-nqn.2014-08.org.x:{V}"),
        format!(
            "disk/by-id/scsi-SVENDOR_{}",
            V.replace('-', "").to_uppercase()
        ),
        format!("drbd/by-res/CV_{V}/0"),
        format!("storpool/os--volume--{}", V.replace('-', "--")),
    ] {
        let fake = Fake::new();
        let source = disk(&fake, "sdb", &link);
        fake.dd(7, &source, "/dev/sdz", at(30));
        let [by_dd, _, auto] = answers(&fake, &question(V)).await;
        assert_eq!([by_dd, auto], [Answer::Percent(30); 2], "{link}");
        let fake = Fake::new();
        let source = disk(&fake, "sdb", &link);
        opens(&fake, &source, READ);
        let [_, by_files, auto] = answers(&fake, &question(V)).await;
        assert_eq!([by_files, auto], [Answer::Percent(30); 2], "{link}");
    }
}

#[tokio::test]
async fn a_disk_named_after_another_volume_by_the_template_is_not_the_volumes() {
    for link in [
        by_path(&format!("iqn.2010-10.org.openstack:volume-{N}")),
        by_path(&format!("iqn.2010-10.org.openstackvolume-{N}")),
        by_path(&format!("iqn.x:VOLUME_{}", N.replace('-', "_"))),
    ] {
        let fake = Fake::new();
        let source = disk(&fake, "sdb", &link);
        fake.dd(7, &source, "/dev/sdz", at(30));
        assert_eq!(
            answers(&fake, &question(V)).await,
            [Answer::Percent(0); 3],
            "{link}"
        );
        assert_eq!(
            answers(&fake, &question(N)).await[0],
            Answer::Percent(30),
            "{link}"
        );
    }
}

#[tokio::test]
async fn what_a_tenant_wrote_on_a_disk_names_nothing() {
    let fake = Fake::new();
    let source = disk(&fake, "sdb", &format!("disk/by-uuid/{V}"));
    fake.link(&format!("dev/disk/by-label/volume-{V}"), "../../sdb");
    fake.link(&format!("dev/disk/by-id/lvm-pv-uuid-{V}"), "../../sdb");
    fake.dd(7, &source, "/dev/sdz", at(30));
    assert_eq!(answers(&fake, &question(V)).await[0], Answer::Unknown);
}

#[tokio::test]
async fn an_image_in_ceph_that_the_kernel_maps_is_known_by_its_name() {
    for link in ["", &format!("rbd/volumes/volume-{V}")] {
        let fake = Fake::new();
        let source = disk(&fake, "rbd0", link);
        fake.write("sys/bus/rbd/devices/0/name", &format!("volume-{V}\n"));
        fake.write("sys/bus/rbd/devices/0/pool", "volumes\n");
        fake.write("sys/bus/rbd/devices/0/current_snap", "-\n");
        fake.dd(7, &source, "/dev/sdz", at(30));
        assert_eq!(answers(&fake, &question(V)).await[0], Answer::Percent(30));
        assert_eq!(answers(&fake, &question(N)).await[0], Answer::Percent(0));
    }
    let fake = Fake::new();
    let source = disk(&fake, "rbd0", "");
    fake.write("sys/bus/rbd/devices/0/name", &format!("volume-{V}\n"));
    fake.dd(7, &source, "/dev/sdz", at(30));
    assert_eq!(answers(&fake, &question(V)).await[0], Answer::Percent(30));
}

#[tokio::test]
async fn an_image_in_ceph_is_known_by_a_name_with_more_around_the_id() {
    for name in [V.to_owned(), format!("os-{V}"), V.to_uppercase()] {
        let fake = Fake::new();
        let source = disk(&fake, "rbd0", "");
        fake.write("sys/bus/rbd/devices/0/name", &format!("{name}\n"));
        fake.dd(7, &source, "/dev/sdz", at(30));
        assert_eq!(
            answers(&fake, &question(V)).await[0],
            Answer::Percent(30),
            "{name}"
        );
    }
    for name in [format!("volume-{V}.deleted"), format!("volume-{V}-tmp")] {
        let fake = Fake::new();
        let source = disk(&fake, "rbd0", "");
        fake.write("sys/bus/rbd/devices/0/name", &format!("{name}\n"));
        fake.dd(7, &source, "/dev/sdz", at(30));
        assert_ne!(
            answers(&fake, &question(V)).await[0],
            Answer::Percent(30),
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_nvme_namespace_is_known_by_its_subsystem() {
    for (attribute, value) in [
        (
            "device/subsysnqn",
            format!("nqn.2014-08.org.nvmexpress:openstack-{V}"),
        ),
        (
            "device/subsysnqn",
            format!("nqn.2014-08.org.nvmexpress:uuid:{}", V.to_uppercase()),
        ),
        (
            "device/subsysnqn",
            format!("nqn.2010-06.com.x:{}", V.replace('-', "")),
        ),
        ("wwid", format!("uuid.{V}")),
        ("uuid", V.to_owned()),
    ] {
        let fake = Fake::new();
        let source = disk(&fake, "nvme1n1", "");
        fake.write(
            &format!("sys/block/nvme1n1/{attribute}"),
            &format!("{value}\n"),
        );
        fake.dd(7, &source, "/dev/sdz", at(30));
        assert_eq!(
            answers(&fake, &question(V)).await[0],
            Answer::Percent(30),
            "{attribute}"
        );
        assert_eq!(
            answers(&fake, &question(N)).await[0],
            Answer::Unknown,
            "{attribute}"
        );
    }
}

#[tokio::test]
async fn the_target_of_an_iscsi_session_names_its_disk_without_udev() {
    let fake = Fake::new();
    let source = disk(&fake, "sdb", "");
    let session = "sys/devices/platform/host3/session1";
    fake.write(&format!("{session}/target3:0:0/3:0:0:7/vendor"), "IET\n");
    let target = format!("iqn.2010-10.org.openstack:volume-{V}");
    fake.write(
        &format!("{session}/iscsi_session/session1/targetname"),
        &format!("{target}\n"),
    );
    fake.link(
        "sys/block/sdb/device",
        "../../devices/platform/host3/session1/target3:0:0/3:0:0:7",
    );
    fake.dd(7, &source, "/dev/sdz", at(30));
    assert_eq!(answers(&fake, &question(V)).await[0], Answer::Percent(30));
    assert_eq!(answers(&fake, &question(N)).await[0], Answer::Percent(0));
}

#[tokio::test]
async fn an_id_of_the_array_leaves_volumes_of_that_size_unknown() {
    let array = "1e6ad5d2-2f0c-11ee-be56-0242ac120002";
    for template in ["%s", TEMPLATE] {
        let fake = Fake::new();
        let source = disk(
            &fake,
            "sdb",
            &by_path(&format!("iqn.1992-08.com.x:sn.{array}")),
        );
        fake.dd(7, &source, "/dev/sdz", at(30));
        let [by_dd, _, auto] = answers(&fake, &question_named(V, template)).await;
        assert_eq!([by_dd, auto], [Answer::Unknown; 2], "{template}");
    }
    let fake = Fake::new();
    let source = disk(
        &fake,
        "sdb",
        &by_path(&format!("iqn.2010-10.org.openstack:{V}")),
    );
    fake.dd(7, &source, "/dev/sdz", at(30));
    assert_eq!(
        answers(&fake, &question_named(V, "%s")).await[0],
        Answer::Percent(30)
    );
    assert_eq!(
        answers(&fake, &question_named(N, "%s")).await[0],
        Answer::Percent(0)
    );
}

#[tokio::test]
async fn what_cinder_volume_writes_while_its_source_is_not_to_be_seen_may_be_the_volumes() {
    let fake = Fake::new();
    let target = by_path(&format!("iqn.2010-10.org.openstack:volume-{N}"));
    let destination = disk(&fake, "sdb", &target);
    opens(&fake, &destination, WRITE);
    let [_, by_files, auto] = answers(&fake, &question(V)).await;
    assert_eq!([by_files, auto], [Answer::Unknown; 2]);
    let larger = Question {
        size: 2 * SIZE,
        ..question(V)
    };
    assert_eq!(
        answers(&fake, &larger).await[2],
        Answer::Percent(0),
        "no room for it"
    );
    // A destination belongs to another volume when its position moves with a source of that volume.
    let source = disk(
        &fake,
        "sdc",
        &by_path(&format!("iqn.x:volume-{}", N.replace('0', "1"))),
    );
    fake.process(7, "cinder-volume")
        .fd(20, &destination, at(30), WRITE)
        .fd(19, &source, at(30), READ);
    assert_eq!(answers(&fake, &question(V)).await[2], Answer::Percent(0));
}

#[tokio::test(start_paused = true)]
async fn a_disk_by_number_that_cinder_volume_reads_may_be_the_volumes() {
    let fake = Fake::new();
    let source = disk(&fake, "sdb", FC);
    opens(&fake, &source, READ);
    let [_, by_files, auto] = answers(&fake, &question(V)).await;
    assert_eq!([by_files, auto], [Answer::Unknown; 2]);
    let tracker = tracker(&fake);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Unknown);
    fake.remove("proc/7/fdinfo/20");
    fake.remove("proc/7/fd/20");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(
        answer(&tracker, question(V)).await,
        Answer::Unknown,
        "cinder completes it"
    );
    let at_rest = Question {
        migrating: false,
        ..question(V)
    };
    assert_eq!(answer(&tracker, at_rest).await, Answer::Percent(0));
}

#[tokio::test]
async fn a_volume_of_a_cluster_may_be_copied_by_a_peer() {
    let clustered = |id| Question {
        clustered: true,
        ..question(id)
    };
    let fake = Fake::new();
    assert_eq!(answers(&fake, &clustered(V)).await, [Answer::Unknown; 3]);
    fake.dd(7, &format!("/dev/vg/volume-{V}"), "/dev/sdz", at(30));
    assert_eq!(answers(&fake, &clustered(V)).await[0], Answer::Percent(30));
}

/// A question with a text that the driver has written into the volume's record.
pub(super) fn with_record(id: &str, text: &str) -> Question {
    Question {
        record: Hardware::of_record([text]),
        ..question(id)
    }
}

#[tokio::test]
async fn a_disk_is_known_by_a_number_in_the_volumes_record() {
    let record = format!(r#"{{"wwn": "{}"}}"#, NAA.to_uppercase());
    let page: Vec<u8> = [0, 0x83, 0, 20, 1, 3, 0, 16]
        .into_iter()
        .chain(
            (0..32)
                .step_by(2)
                .map(|at| u8::from_str_radix(&NAA[at..at + 2], 16).unwrap()),
        )
        .collect();
    for attribute in ["device/wwid", "device/vpd_pg83", "link", "dm/uuid"] {
        let fake = Fake::new();
        let source = disk(&fake, "sdb", FC);
        match attribute {
            "device/vpd_pg83" => {
                fake.write("sys/block/sdb/device/vpd_pg83", "");
                std::fs::write(fake.path("sys/block/sdb/device/vpd_pg83"), &page).unwrap();
            }
            "link" => fake.link(&format!("dev/disk/by-id/wwn-0x{NAA}"), "../../sdb"),
            "dm/uuid" => {
                fake.write("sys/block/sdb/dm/name", "mpatha\n");
                fake.write("sys/block/sdb/dm/uuid", &format!("mpath-3{NAA}\n"));
                fake.write("sys/block/sdb/slaves/sdc/dev", "8:32\n");
            }
            _ => fake.write("sys/block/sdb/device/wwid", &format!("naa.{NAA}\n")),
        }
        fake.dd(7, &source, "/dev/sdz", at(30));
        let tracker = tracker(&fake);
        let known = with_record(V, &record);
        assert_eq!(
            answer(&tracker, known).await,
            Answer::Percent(30),
            "{attribute}"
        );
        let copies = tracker.running().await.unwrap().running;
        assert_eq!(copies[0].volume_id(TEMPLATE).as_deref(), Some(V));
        assert_eq!(
            answer(&tracker, question(N)).await,
            Answer::Percent(0),
            "it is known"
        );
        fake.end(7);
        assert_eq!(
            answer(&tracker, question(V)).await,
            Answer::Percent(30),
            "and stays known"
        );
    }
}

/// Spellings as drivers write them into `provider_location`, `provider_id` and `admin_metadata`.
#[tokio::test]
async fn a_number_in_the_record_counts_however_it_is_spelt() {
    for text in [
        NAA.to_uppercase(),
        format!("0x{NAA}"),
        format!("0X{}", NAA.to_uppercase()),
        format!("naa.{NAA}"),
        format!("NAA.{}", NAA.to_uppercase()),
        format!("3{NAA}"),
        format!("array^sn^naa.{NAA}^7"),
        format!("wwn={NAA};lun=7"),
    ] {
        let fake = Fake::new();
        let source = disk(&fake, "sdb", FC);
        fake.write("sys/block/sdb/device/wwid", &format!("naa.{NAA}\n"));
        fake.dd(7, &source, "/dev/sdz", at(30));
        let known = answers(&fake, &with_record(V, &text)).await;
        assert_eq!(known[0], Answer::Percent(30), "{text}");
    }
    let eui = "0025388b91b2c3d4";
    for text in [
        eui.to_uppercase(),
        format!("eui.{eui}"),
        format!("EUI.{}", eui.to_uppercase()),
        format!("0x{eui}"),
    ] {
        let fake = Fake::new();
        let source = disk(&fake, "nvme1n1", "");
        fake.write("sys/block/nvme1n1/wwid", &format!("eui.{eui}\n"));
        fake.dd(7, &source, "/dev/sdz", at(30));
        let known = answers(&fake, &with_record(V, &text)).await;
        assert_eq!(known[0], Answer::Percent(30), "{text}");
    }
}

#[tokio::test]
async fn a_disk_is_known_by_its_target_and_its_unit() {
    let fake = Fake::new();
    let source = disk(&fake, "sdb", &by_path("iqn.1992-08.com.x:all"));
    fake.dd(7, &source, "/dev/sdz", at(30));
    let location = |unit: u8| format!("10.0.2.15:3260,1 iqn.1992-08.com.x:all {unit}");
    let other = with_record(V, &location(2));
    assert_eq!(answers(&fake, &other).await[0], Answer::Unknown);
    let own = with_record(V, &location(1));
    assert_eq!(answers(&fake, &own).await[0], Answer::Percent(30));
}

#[tokio::test]
async fn a_record_of_several_disks_and_a_disk_of_several_records_decide_nothing() {
    let fake = Fake::new();
    let other = NAA.replace("01", "02");
    for (pid, name, number) in [(7, "sdb", NAA), (8, "sdc", &other)] {
        let source = disk(&fake, name, "");
        fake.write(
            &format!("sys/block/{name}/device/wwid"),
            &format!("naa.{number}\n"),
        );
        fake.dd(pid, &source, "/dev/sdz", at(30));
    }
    let both = with_record(V, &format!("{NAA} {other}"));
    assert_eq!(answers(&fake, &both).await[0], Answer::Unknown);
    let tracker = tracker(&fake);
    assert_eq!(
        answer(&tracker, with_record(V, NAA)).await,
        Answer::Percent(30)
    );
    let tracker = Tracker::new(fake.roots(), Duration::from_millis(50));
    fake.end(7);
    fake.end(8);
    assert_eq!(
        answer(&tracker, with_record(N, NAA)).await,
        Answer::Percent(0)
    );
    let source = disk(&fake, "sdb", "");
    fake.dd(9, &source, "/dev/sdz", at(30));
    assert_eq!(answer(&tracker, with_record(V, NAA)).await, Answer::Unknown);
}
