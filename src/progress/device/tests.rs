//! Which volume a path means, on made-up nodes.

use super::{Identity, major_minor};
use crate::progress::tests::fake_host::Fake;

const ID: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";
const NAME: &str = "volume-b5012f4a-d256-45a1-8370-86a6dd7e6dde";
const MAPPED: &str = "vg_one-volume--b5012f4a--d256--45a1--8370--86a6dd7e6dde";
const BY_PATH: &str = "ip-10.0.2.15:3260-iscsi-iqn.2010-10.org.openstack:volume-b5012f4a-d256-45a1-8370-86a6dd7e6dde-lun-1";

fn names(fake: &Fake, path: &str) -> bool {
    Identity::of(&fake.roots(), path).names_volume(NAME)
}

#[test]
fn plain_paths_name_a_volume() {
    let fake = Fake::new();
    assert!(names(&fake, &format!("/dev/vg-one/{NAME}")));
    assert!(names(&fake, &format!("/var/lib/cinder/mnt/1234/{NAME}")));
    assert!(names(&fake, &format!("/dev/drbd/by-res/{NAME}/0")));
    assert!(!names(&fake, &format!("/dev/vg/{NAME}-old")));
    assert!(!names(
        &fake,
        &format!("/dev/vg/volume-{}", ID.replace('b', "c"))
    ));
    assert!(!names(&fake, "/dev/vg/"));
}

#[test]
fn mapper_paths_name_a_volume_with_doubled_dashes() {
    let fake = Fake::new();
    assert!(names(&fake, &format!("/dev/mapper/{MAPPED}")));
    let dashed = MAPPED.replace("vg_one", "vg--one--x");
    assert!(names(&fake, &format!("/dev/mapper/{dashed}")));
    assert!(names(&fake, &format!("/dev/mapper/{NAME}")));
    assert!(!names(&fake, &format!("/dev/mapper/{MAPPED}-cow")));
    assert!(!names(&fake, &format!("/dev/mapper/x{MAPPED}--2")));
}

#[test]
fn by_path_links_name_a_volume() {
    let fake = Fake::new();
    assert!(names(&fake, &format!("/dev/disk/by-path/{BY_PATH}")));
    assert!(!names(&fake, &format!("/dev/disk/by-path/{BY_PATH}-part1")));
    let longer = BY_PATH.replace("-lun", "0-lun");
    assert!(!names(&fake, &format!("/dev/disk/by-path/{longer}")));
}

#[test]
fn kernel_names_are_traced_through_by_path_links() {
    let fake = Fake::new();
    fake.write("dev/sdb", "");
    fake.write("dev/sda", "");
    fake.link("dev/disk/by-path/platform-uml-blkdev.0", "../../ubda");
    fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdb");
    assert!(names(&fake, "/dev/sdb"));
    assert!(!names(&fake, "/dev/sda"));
    assert!(Identity::of(&fake.roots(), "/dev/sdb").is_resolved());
    assert!(!Identity::of(&fake.roots(), "/dev/sda").is_resolved());
}

#[test]
fn kernel_names_are_traced_through_sysfs() {
    let fake = Fake::new();
    fake.write("sys/block/dm-2/dm/name", &format!("{MAPPED}\n"));
    assert!(names(&fake, "/dev/dm-2"));
    fake.write("dev/dm-2", "");
    fake.link("dev/block/254:2", "../dm-2");
    assert!(names(&fake, "/dev/block/254:2"));
    let identity = Identity::of(&fake.roots(), "/dev/dm-2");
    assert!(identity.is(&format!("/dev/vg_one/{NAME}")));
    assert!(identity.is_device() && identity.is_resolved());
}

#[test]
fn a_multipath_map_is_traced_through_its_paths() {
    let fake = Fake::new();
    for node in ["sdb", "sdc", "dm-5"] {
        fake.write(&format!("dev/{node}"), "");
    }
    fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdc");
    fake.link("dev/mapper/360000000000000000e00000000010001", "../dm-5");
    fake.write(
        "sys/block/dm-5/dm/name",
        "360000000000000000e00000000010001\n",
    );
    fake.write(
        "sys/block/dm-5/dm/uuid",
        "mpath-360000000000000000e00000000010001\n",
    );
    fake.write("sys/block/dm-5/slaves/sdb/dev", "8:16\n");
    fake.write("sys/block/dm-5/slaves/sdc/dev", "8:32\n");
    assert!(names(&fake, "/dev/dm-5"));
    assert!(names(
        &fake,
        "/dev/mapper/360000000000000000e00000000010001"
    ));
}

#[test]
fn an_encrypted_volume_is_traced_through_what_it_lies_on() {
    let fake = Fake::new();
    let crypt = |node: &str, below: &str| {
        fake.write(&format!("dev/{node}"), "");
        fake.write(&format!("sys/block/{node}/dm/name"), "crypt-scsi-3600\n");
        let uuid = "CRYPT-LUKS2-8a6f-crypt-scsi-3600\n";
        fake.write(&format!("sys/block/{node}/dm/uuid"), uuid);
        fake.write(&format!("sys/block/{node}/slaves/{below}/dev"), "\n");
    };
    // On a logical volume.
    fake.write("sys/block/dm-2/dm/name", &format!("{MAPPED}\n"));
    fake.write("sys/block/dm-2/dm/uuid", "LVM-GlSadfFj\n");
    crypt("dm-5", "dm-2");
    assert!(names(&fake, "/dev/dm-5"));
    // On an iSCSI disk, by way of the map's name.
    crypt("dm-6", "sdb");
    fake.link("dev/mapper/crypt-scsi-3600", "../dm-6");
    assert!(!names(&fake, "/dev/mapper/crypt-scsi-3600"));
    fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdb");
    assert!(names(&fake, "/dev/mapper/crypt-scsi-3600"));
    // On a multipath map of such disks.
    fake.write("sys/block/dm-8/dm/name", "36000\n");
    fake.write("sys/block/dm-8/dm/uuid", "mpath-36000\n");
    fake.write("sys/block/dm-8/slaves/sdb/dev", "8:16\n");
    crypt("dm-7", "dm-8");
    assert!(names(&fake, "/dev/dm-7"));
    // A circle, which no kernel builds, ends all the same.
    crypt("dm-9", "dm-9");
    assert!(!names(&fake, "/dev/dm-9"));
}

#[test]
fn a_logical_volume_does_not_inherit_the_names_of_what_it_lies_on() {
    let fake = Fake::new();
    fake.write("dev/dm-5", "");
    fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdc");
    fake.write("sys/block/dm-5/dm/name", "vg-other\n");
    fake.write("sys/block/dm-5/dm/uuid", "LVM-GlSadfFj\n");
    fake.write("sys/block/dm-5/slaves/sdc/dev", "8:32\n");
    assert!(!names(&fake, "/dev/dm-5"));
}

#[test]
fn two_names_of_one_device_are_the_same() {
    let fake = Fake::new();
    fake.write("dev/dm-2", "");
    fake.link(&format!("dev/mapper/{MAPPED}"), "../dm-2");
    fake.link("dev/mapper/loop-a", "loop-b");
    fake.link("dev/mapper/loop-b", "loop-a");
    let roots = fake.roots();
    let mapped = Identity::of(&roots, &format!("/dev/mapper/{MAPPED}"));
    assert!(mapped.same_as(&Identity::of(&roots, "/dev/dm-2")));
    assert!(!mapped.same_as(&Identity::of(&roots, "/dev/dm-3")));
    assert!(Identity::of(&roots, "/dev/mapper/loop-a").is("/dev/mapper/loop-a"));
}

#[test]
fn the_id_is_read_from_any_form_of_the_name() {
    let fake = Fake::new();
    let id = |path: &str, template: &str| Identity::of(&fake.roots(), path).volume_id(template);
    for path in [
        format!("/dev/mapper/{MAPPED}"),
        format!("/dev/mapper/{NAME}"),
        format!("/dev/vg/{NAME}"),
        format!("/mnt/nfs/{NAME}"),
        format!("/dev/disk/by-path/{BY_PATH}"),
    ] {
        assert_eq!(id(&path, "volume-%s").as_deref(), Some(ID), "{path}");
    }
    assert_eq!(id(&format!("/mnt/{ID}"), "%s").as_deref(), Some(ID));
    assert_eq!(id(&format!("/mnt/v_{ID}_x"), "v_%s_x").as_deref(), Some(ID));
    for path in ["/dev/sdb", "/mnt/volume-1", &format!("/mnt/{NAME}-old")] {
        assert_eq!(id(path, "volume-%s"), None, "{path}");
    }
    assert_eq!(id(&format!("/mnt/{NAME}"), "vol-%s"), None);
}

#[test]
fn a_relative_path_is_where_its_process_is() {
    let fake = Fake::new();
    fake.write(&format!("mnt/{NAME}"), "123");
    fake.link("proc/7/cwd", fake.path("mnt/below").to_str().unwrap());
    let identity = Identity::seen_by(&fake.roots(), 7, &format!("../{NAME}"));
    assert_eq!(identity.path(), format!("../{NAME}"));
    assert_eq!(identity.bytes(), Some(3));
    assert_eq!(identity.inode(), Some(fake.inode(&format!("mnt/{NAME}"))));
    assert!(identity.names_volume(NAME));
    // Cargo.toml is to be found where the test runs, and is not what a process elsewhere means.
    let elsewhere = Identity::seen_by(&fake.roots(), 8, "Cargo.toml");
    assert_eq!((elsewhere.inode(), elsewhere.bytes()), (None, None));
}

#[test]
fn a_file_is_the_one_among_the_mounts_of_its_process() {
    let fake = Fake::new();
    fake.write("here", "12345");
    let path = fake.path("here");
    let path = path.to_str().unwrap();
    fake.link("proc/7/root", fake.path("container").to_str().unwrap());
    fake.write(&format!("container{path}"), "1");
    let bytes = || Identity::seen_by(&fake.roots(), 7, path).bytes();
    assert_eq!(bytes(), Some(5), "as far as can be told");
    fake.link("proc/self/ns/mnt", "mnt:[1]");
    fake.link("proc/7/ns/mnt", "mnt:[1]");
    assert_eq!(bytes(), Some(5));
    fake.link("proc/7/ns/mnt", "mnt:[2]");
    assert_eq!(bytes(), Some(1));
    fake.remove(&format!("container{path}"));
    assert_eq!(bytes(), None, "what is here is another");
}

#[test]
fn a_disk_that_nothing_names_may_be_any_volume() {
    let fake = Fake::new();
    for node in ["sdb", "sdc", "dm-3", "dm-4", "dm-5"] {
        fake.write(&format!("dev/{node}"), "");
    }
    let fc = "dev/disk/by-path/pci-0000:05:00.2-fc-0x50060e801049cfd1-lun-1";
    fake.link(fc, "../../sdb");
    fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdc");
    for (node, uuid, below) in [
        ("dm-3", "mpath-36000", "sdb"),
        ("dm-4", "LVM-GlSadfFj", "sdb"),
        ("dm-5", "CRYPT-LUKS1-5454-x", "dm-4"),
    ] {
        fake.write(&format!("sys/block/{node}/dm/name"), "some-name\n");
        fake.write(&format!("sys/block/{node}/dm/uuid"), &format!("{uuid}\n"));
        fake.write(&format!("sys/block/{node}/slaves/{below}/dev"), "\n");
    }
    for (path, any) in [
        ("/dev/sdb", true),
        ("/dev/sdc", false),
        ("/dev/dm-3", true),
        ("/dev/dm-4", false),
        ("/dev/dm-5", false),
        ("/dev/vg/root", false),
        ("/mnt/file", false),
    ] {
        let identity = Identity::of(&fake.roots(), path);
        assert_eq!(identity.may_be_unnamed_volume("volume-%s"), any, "{path}");
    }
}

#[test]
fn sizes_come_from_sysfs_or_the_file() {
    let fake = Fake::new();
    fake.write("dev/dm-2", "");
    fake.link(&format!("dev/mapper/{MAPPED}"), "../dm-2");
    fake.write("sys/class/block/dm-2/size", "2097152\n");
    fake.write("file", "12345");
    let bytes = |path: &str| Identity::of(&fake.roots(), path).bytes();
    assert_eq!(bytes(&format!("/dev/mapper/{MAPPED}")), Some(1 << 30));
    assert_eq!(bytes(fake.path("file").to_str().unwrap()), Some(5));
    assert_eq!(bytes("/dev/sdz"), None);
    assert_eq!(bytes("/no/such/file"), None);
}

#[test]
fn device_numbers_are_split_as_the_c_library_does() {
    assert_eq!(major_minor(0x0810), "8:16");
    assert_eq!(major_minor(0xfe02), "254:2");
    assert_eq!(major_minor((1 << 20) | 0x0803), "8:259");
}
