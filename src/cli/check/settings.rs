//! Prints the most important settings, and where each was set.

use std::path::Path;

use super::report::Report;
use crate::config::{Brokers, Mode, Origins, Settings};

/// Prints a line for each setting that has to be the same as cinder-volume's.
pub(super) fn report(report: &mut Report, settings: &Settings, origins: &Origins) {
    let files: Vec<_> = settings
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    if files.is_empty() {
        report.warn(
            "settings",
            "no file was found, so every option has its default",
            "name cinder-volume's files with --config-file, or put them where it reads them",
        );
    } else {
        report.ok("settings", files.join(", "));
    }
    let Origins {
        brokers,
        control_exchange,
        host,
        enabled_backends,
        mode,
    } = origins;
    report.ok(
        "transport_url",
        format!("{} ({brokers})", written(&settings.brokers)),
    );
    let exchange = &settings.control_exchange;
    report.ok(
        "control_exchange",
        format!("{exchange} ({control_exchange})"),
    );
    report.ok("host", format!("{} ({host})", settings.host));
    let names: Vec<_> = settings
        .backends
        .iter()
        .filter_map(|b| b.name.as_deref())
        .collect();
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    report.ok("enabled_backends", format!("{names} ({enabled_backends})"));
    if let Some(cluster) = &settings.cluster {
        report.warn(
            "cluster",
            format!("cinder-volume is in the cluster {cluster}; the topics of the host are served, those of the cluster are not"),
            "calls about volumes of the cluster go to whichever of its nodes, past the daemon, and are answered by \
             cinder-volume with an error; calls that name the host are answered",
        );
    }
    for backend in &settings.backends {
        if settings.progress.mode != Mode::Direct {
            report.ok("topic", &backend.address.topic);
        }
        report.ok("topic", &backend.own.topic);
    }
    let word = match settings.progress.mode {
        Mode::Sidecar => "sidecar",
        Mode::Direct => "direct",
        Mode::Standalone => "standalone",
    };
    report.ok("mode", format!("{word} ({mode})"));
    let roots = [
        ("sys_root", &settings.progress.sys_root),
        ("dev_root", &settings.progress.dev_root),
    ];
    for (option, folder) in roots {
        if !Path::is_dir(folder) {
            report.fail(
                option,
                format!("{} is no folder", folder.display()),
                "the daemon identifies volumes by it: leave the option out, or mount it",
            );
        }
    }
}

/// The brokers without the passwords.
fn written(brokers: &Brokers) -> String {
    let hosts: Vec<_> = brokers
        .hosts
        .iter()
        .map(|host| format!("{}@{}:{}", host.username, host.host, host.port))
        .collect();
    let tls = if brokers.tls.is_some() {
        "over TLS"
    } else {
        "without TLS"
    };
    let (hosts, virtual_host) = (hosts.join(", "), &brokers.virtual_host);
    format!("{hosts}, virtual host {virtual_host}, {tls}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn brokers_are_shown_without_passwords() {
        for (url, expected) in [
            (
                "rabbit://u:HUSH@h:5671,v:HUSH@[::1]/x?ssl=1",
                "u@h:5671, v@::1:5672, virtual host x, over TLS",
            ),
            ("rabbit://h", "guest@h:5672, virtual host /, without TLS"),
        ] {
            let sources = Sources {
                config_files: vec!["/dev/null".into()],
                overrides: vec![("DEFAULT".into(), "transport_url".into(), url.into())],
                ..Sources::default()
            };
            assert_eq!(written(&load(&sources).unwrap().brokers), expected);
        }
    }
}
