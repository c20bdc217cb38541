//! The node: which processes can be read, where state is kept, which copies run.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::geteuid;

use super::report::Report;
use crate::config::{Progress, Settings};
use crate::progress::{
    Container, Daemon, NodeAccess, ProgressError, Roots, Tracker, Users, access,
};

/// The interval of scans, which the tracker needs. `check` scans once.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints the lines about the node.
pub(super) async fn report(report: &mut Report, settings: &Settings) {
    let progress = &settings.progress;
    let access = access(&progress.proc_root).await;
    processes(report, &progress.proc_root, &access);
    container(report, &access.container);
    user(report, &access);
    state_file(report, progress);
    copies(report, settings).await;
}

fn processes(report: &mut Report, proc: &Path, access: &NodeAccess) {
    let proc = proc.display();
    let others = if access.of_root {
        "root's processes"
    } else {
        "the first processes, which are not root's here"
    };
    match &access.positions {
        Ok(()) => report.ok("proc", format!("{proc}: positions of {others} can be read")),
        Err(error) => report.fail("proc", error.detail(), remedy(error)),
    }
    match &access.links {
        Ok(()) => report.ok("proc", format!("{proc}: open files of {others} can be seen")),
        // The line above already has this error.
        Err(_) if access.positions.is_err() => {}
        Err(error) => report.warn(
            "proc",
            error.detail(),
            "copies by dd are seen; those through open files (FILE_BASED) need CAP_DAC_READ_SEARCH too",
        ),
    }
}

fn remedy(error: &ProgressError) -> &'static str {
    match error {
        ProgressError::Refused { .. } | ProgressError::Hidden { .. } => {
            "give the daemon the capability (AmbientCapabilities= in its unit), and check as root or as its user"
        }
        ProgressError::TimedOut { .. } | ProgressError::Busy { .. } => {
            "a process of the node hangs in the kernel: look for state D in ps"
        }
        _ => "[progress] proc_root has to name a mounted procfs",
    }
}

/// Prints what is missing from the view of the node in a container. Prints nothing outside of one.
fn container(report: &mut Report, container: &Container) {
    if container.apart {
        report.warn(
            "container",
            "processes are those of a container, and no cinder-volume is among them",
            "its dd cannot be seen from here: give the container the host's processes (docker and podman: --pid host; Kubernetes: hostPID: true)",
        );
    }
    if container.covered {
        report.ok(
            "container",
            "/proc/loadavg is lxcfs's: all processes are listed at each look, which costs a little more",
        );
    }
    if let Some(label) = &container.refused_by {
        report.fail(
            "container",
            format!("CAP_SYS_PTRACE is there, and {label} refuses all the same"),
            "run the container without that profile (docker and podman: --security-opt apparmor=unconfined; Kubernetes: appArmorProfile type Unconfined), or with one that allows `ptrace (read)`",
        );
    }
}

/// Rights are those of the user that runs `check`. The daemon's user may be another.
fn user(report: &mut Report, access: &NodeAccess) {
    let own = geteuid().as_raw();
    if access.daemons.is_empty() {
        if own == 0 {
            report.warn(
                "user",
                "checked as root, and no daemon runs here to compare with",
                "if the daemon is not to run as root, check again as its user with its capabilities",
            );
        } else {
            report.ok("user", format!("checked as user {own}"));
        }
    }
    for daemon in &access.daemons {
        let Daemon {
            pid,
            uid,
            ptrace,
            read_search,
        } = daemon;
        let may = |has: &bool| if *has { "has" } else { "lacks" };
        let found = format!(
            "the daemon (pid {pid}, user {uid}) {} CAP_SYS_PTRACE and {} CAP_DAC_READ_SEARCH; checked as user {own}",
            may(ptrace),
            may(read_search),
        );
        if *ptrace {
            report.ok("user", found);
        } else {
            report.fail(
                "user",
                found,
                "it cannot see what root's dd does: AmbientCapabilities=CAP_SYS_PTRACE in its unit",
            );
        }
    }
}

/// Asks the kernel whether the file could be written. Writes nothing, because the file may be a running daemon's.
fn state_file(report: &mut Report, progress: &Progress) {
    let Some(file) = &progress.state_file else {
        report.ok("state_file", "empty: nothing is kept over a restart");
        return;
    };
    let folder = file.parent().unwrap_or(Path::new("/"));
    let made = if folder.exists() {
        folder
    } else {
        folder.parent().unwrap_or(Path::new("/"))
    };
    let may = accessat(
        CWD,
        made,
        Access::WRITE_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    );
    let file = file.display();
    match may {
        Ok(()) if made == folder => report.ok("state_file", format!("{file} can be written")),
        Ok(()) => report.ok("state_file", format!("{file}: its folder will be made")),
        Err(error) => report.fail(
            "state_file",
            format!("{file}: {}: {error}", made.display()),
            "RuntimeDirectory=cinder-progress in its unit makes the folder for its user; or name another file",
        ),
    }
}

async fn copies(report: &mut Report, settings: &Settings) {
    let progress = &settings.progress;
    let roots = Roots {
        proc: progress.proc_root.clone(),
        sys: progress.sys_root.clone(),
        dev: progress.dev_root.clone(),
        users: Users::and(&progress.dd_users),
    };
    match Tracker::new(roots, INTERVAL).running().await {
        Ok(mut copies) => {
            let template = &settings.volume_name_template;
            copies.running.retain(|copy| copy.may_be_cinders(template));
            if copies.running.is_empty() && copies.unseen.is_none() {
                report.ok("copies", "none runs");
            }
            for copy in &copies.running {
                let volume = copy.volume_id(template);
                let volume = volume.as_deref().unwrap_or("no volume by its name");
                let found = format!(
                    "{volume}: {} -> {} (pid {})",
                    copy.source, copy.destination, copy.pid
                );
                match &copy.trouble {
                    None => report.ok("copies", found),
                    Some(trouble) => report.fail(
                        "copies",
                        format!("{found}: {}", trouble.detail()),
                        remedy(trouble),
                    ),
                }
            }
            if let Some(unseen) = &copies.unseen {
                let found = format!("there may be more: {}", unseen.detail());
                report.fail("copies", found, remedy(unseen));
            }
        }
        Err(error) => report.fail("copies", error.detail(), remedy(&error)),
    }
}
