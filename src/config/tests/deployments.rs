//! Real-looking files of several deployments give the settings they should.

use std::time::Duration;

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn load_fixtures(names: &[&str]) -> Settings {
    let config_files = names.iter().map(|name| fixture(name)).collect();
    let mut settings = load(&Sources {
        config_files,
        ..Sources::default()
    })
    .unwrap();
    settings.files.clear();
    settings
}

fn broker(host: &str, port: u16, username: &str, password: &str) -> BrokerHost {
    BrokerHost {
        host: host.to_owned(),
        port,
        username: username.to_owned(),
        password: Secret::new(password),
    }
}

fn backend(name: Option<&str>, host: &str, topic: &str, server_queue: &str) -> Backend {
    Backend {
        name: name.map(str::to_owned),
        host: host.to_owned(),
        address: Address {
            topic: topic.to_owned(),
            server_queue: server_queue.to_owned(),
            fanout_exchange: format!("{topic}_fanout"),
        },
        own: own(topic, server_queue),
        migration_mode: MigrationMode::Auto,
        driver: None,
        without_devices: false,
    }
}

/// The daemon's names differ from cinder-volume's in the first word.
fn own(topic: &str, server_queue: &str) -> Address {
    let renamed = |name: &str| name.replacen("cinder-volume.", "cinder-progress.", 1);
    Address {
        topic: renamed(topic),
        server_queue: renamed(server_queue),
        fanout_exchange: format!("{}_fanout", renamed(topic)),
    }
}

fn driver(command: &[&str], timeout: u64) -> Driver {
    Driver {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        timeout: seconds(timeout),
    }
}

/// What stands in no file.
fn defaults() -> Settings {
    Settings {
        files: vec![],
        host: "machine".to_owned(),
        control_exchange: "openstack".to_owned(),
        debug: false,
        volume_name_template: "volume-%s".to_owned(),
        rpc_ping_enabled: false,
        rpc_response_timeout: seconds(60),
        brokers: Brokers {
            hosts: vec![broker("localhost", 5672, "guest", "guest")],
            virtual_host: "/".to_owned(),
            tls: None,
        },
        rabbit: Rabbit {
            amqp_durable_queues: false,
            amqp_auto_delete: false,
            rabbit_ha_queues: false,
            rabbit_quorum_queue: false,
            rabbit_transient_quorum_queue: false,
            rabbit_stream_fanout: false,
            rabbit_quorum_delivery_limit: 0,
            rabbit_quorum_max_memory_length: 0,
            rabbit_quorum_max_memory_bytes: 0,
            rabbit_transient_queues_ttl: seconds(1800),
            rabbit_qos_prefetch_count: 0,
            enable_cancel_on_failover: false,
            heartbeat_timeout_threshold: seconds(60),
            rabbit_login_method: LoginMethod::AmqPlain,
            kombu_failover_strategy: FailoverStrategy::RoundRobin,
            kombu_reconnect_delay: seconds(1),
            kombu_reconnect_splay: seconds(0),
            rabbit_retry_interval: seconds(1),
            rabbit_retry_backoff: seconds(2),
            rabbit_interval_max: seconds(30),
            kombu_missing_consumer_retry_timeout: seconds(60),
        },
        cluster: None,
        backends: vec![backend(
            None,
            "machine",
            "cinder-volume.machine",
            "cinder-volume.machine.machine",
        )],
        progress: Progress {
            mode: Mode::Sidecar,
            rpc_version: (3, 11),
            migration_mode: MigrationMode::Auto,
            driver: None,
            unknown_progress: "NA".to_owned(),
            consumer_priority: 10,
            prefetch: 64,
            scan_interval: seconds(1),
            proc_root: "/proc".into(),
            sys_root: "/sys".into(),
            dev_root: "/dev".into(),
            dd_users: [].into(),
            state_file: Some("/run/cinder-progress/state.json".into()),
            metrics_listen: None,
        },
    }
}

#[test]
fn nothing_at_all() {
    assert_eq!(load_text("").unwrap(), defaults());
}

#[test]
fn ocata() {
    let expected = Settings {
        host: "storage1".to_owned(),
        brokers: Brokers {
            hosts: vec![
                broker("192.0.2.21", 5672, "openstack", "RABBIT PASS"),
                broker("192.0.2.22", 5674, "openstack", "RABBIT PASS"),
                broker("2001:db8::23", 5673, "openstack", "RABBIT PASS"),
            ],
            virtual_host: "/cinder".to_owned(),
            tls: Some(Tls {
                ca_file: Some(TlsFile {
                    path: "/etc/ssl/certs/broker.pem".into(),
                    origin: Origin::Default,
                }),
                cert_file: None,
                key_file: None,
                version: TlsVersion::Tls12,
                verify: true,
                verify_name: true,
            }),
        },
        rabbit: Rabbit {
            rabbit_ha_queues: true,
            kombu_missing_consumer_retry_timeout: seconds(20),
            ..defaults().rabbit
        },
        backends: vec![backend(
            Some("lvm"),
            "storage1",
            "cinder-volume.storage1@lvm",
            "cinder-volume.storage1@lvm.storage1",
        )],
        ..defaults()
    };
    assert_eq!(load_fixtures(&["ocata.conf"]), expected);
}

#[test]
fn one_broker_in_the_oldest_spelling() {
    let text = "[DEFAULT]\nrabbit_host = broker1\nrabbit_port = 5673\nrabbit_password = pw\n";
    let expected = Brokers {
        hosts: vec![broker("broker1", 5673, "guest", "pw")],
        ..defaults().brokers
    };
    assert_eq!(load_text(text).unwrap().brokers, expected);
}

#[test]
fn kolla_ansible() {
    let found = load_fixtures(&["kolla-ansible.conf"]);
    let machine = found.host.clone();
    let expected = Settings {
        host: machine.clone(),
        brokers: Brokers {
            hosts: ["192.0.2.31", "192.0.2.32", "192.0.2.33"]
                .map(|host| broker(host, 5672, "openstack", "Xb9$tQ"))
                .to_vec(),
            virtual_host: "/".to_owned(),
            tls: None,
        },
        rabbit: Rabbit {
            amqp_durable_queues: true,
            rabbit_quorum_queue: true,
            rabbit_transient_quorum_queue: true,
            rabbit_stream_fanout: true,
            rabbit_qos_prefetch_count: 1,
            ..defaults().rabbit
        },
        backends: vec![
            Backend {
                without_devices: true,
                ..backend(
                    Some("rbd-1"),
                    "rbd:volumes",
                    "cinder-volume.rbd:volumes@rbd-1",
                    "cinder-volume.rbd:volumes@rbd-1.rbd:volumes",
                )
            },
            backend(
                Some("lvm-1"),
                &machine,
                &format!("cinder-volume.{machine}@lvm-1"),
                &format!("cinder-volume.{machine}@lvm-1.{machine}"),
            ),
        ],
        ..defaults()
    };
    assert_eq!(found, expected);
}

#[test]
fn openstack_ansible() {
    let expected = Settings {
        host: "aio1-cinder-volumes".to_owned(),
        debug: true,
        control_exchange: "cinder".to_owned(),
        rpc_ping_enabled: true,
        rpc_response_timeout: seconds(60),
        brokers: Brokers {
            hosts: ["172.29.239.1", "172.29.239.2"]
                .map(|host| broker(host, 5671, "cinder", "0123abcd"))
                .to_vec(),
            virtual_host: "/cinder".to_owned(),
            tls: Some(Tls {
                ca_file: None,
                cert_file: None,
                key_file: None,
                version: TlsVersion::Tls12,
                verify: true,
                verify_name: true,
            }),
        },
        rabbit: Rabbit {
            rabbit_quorum_queue: true,
            rabbit_quorum_delivery_limit: 10,
            rabbit_transient_queues_ttl: seconds(600),
            enable_cancel_on_failover: true,
            heartbeat_timeout_threshold: seconds(45),
            kombu_failover_strategy: FailoverStrategy::Shuffle,
            ..defaults().rabbit
        },
        backends: vec![backend(
            Some("lvm"),
            "aio1-cinder-volumes",
            "cinder-volume.aio1-cinder-volumes@lvm",
            "cinder-volume.aio1-cinder-volumes@lvm.aio1-cinder-volumes",
        )],
        ..defaults()
    };
    assert_eq!(load_fixtures(&["openstack-ansible.conf"]), expected);
}

#[test]
fn debian() {
    let found = load_fixtures(&["debian.conf"]);
    let machine = found.host.clone();
    let topic = format!("cinder-volume.{machine}");
    let expected = Settings {
        brokers: Brokers {
            hosts: vec![broker("controller", 5672, "openstack", "pw")],
            ..defaults().brokers
        },
        backends: vec![backend(
            None,
            &machine,
            &topic,
            &format!("{topic}.{machine}"),
        )],
        host: machine,
        ..defaults()
    };
    assert_eq!(found, expected);
}

#[test]
fn our_own_file_after_cinders() {
    let found = load_fixtures(&["kolla-ansible.conf", "progress.conf"]);
    let progress = Progress {
        mode: Mode::Standalone,
        rpc_version: (3, 5),
        migration_mode: MigrationMode::FileBased,
        driver: Some(driver(&["/usr/bin/ask", "two words"], 2)),
        unknown_progress: "?".to_owned(),
        consumer_priority: 5,
        prefetch: 4,
        scan_interval: Duration::from_millis(500),
        proc_root: "/tmp/proc".into(),
        sys_root: "/tmp/sys".into(),
        dev_root: "/tmp/dev".into(),
        dd_users: [0, 42407].into(),
        state_file: Some("/tmp/state.json".into()),
        metrics_listen: Some(Listen {
            host: "::1".to_owned(),
            port: 9813,
        }),
    };
    assert_eq!(found.progress, progress);
    let drivers: Vec<_> = found
        .backends
        .iter()
        .map(|backend| backend.driver.clone())
        .collect();
    assert_eq!(
        drivers,
        [progress.driver, Some(driver(&["ask-tape", "$pool"], 2))]
    );
    let modes: Vec<_> = found
        .backends
        .into_iter()
        .map(|backend| backend.migration_mode)
        .collect();
    assert_eq!(
        modes,
        [
            MigrationMode::FileBased,
            MigrationMode::Other("tape_based".to_owned())
        ]
    );
}
