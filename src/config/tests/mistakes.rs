//! Each mistake says where, what and what would be right.

use super::*;

#[track_caller]
fn says(text: &str, expected: &str) {
    let error = load_text(text).expect_err("a mistake");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn lines() {
    says(
        "[DEFAULT]\nhost\n",
        "/etc/test.conf:2: expected option = value, [section] or, in column 0, # comment",
    );
    says(
        "[DEFAULT\n",
        "/etc/test.conf:1: expected ']' at the end of a section header",
    );
    says(
        "host = a\n",
        "/etc/test.conf:1: expected a section such as [DEFAULT] before the first option",
    );
}

#[test]
fn values() {
    says(
        "[DEFAULT]\n\ndebug = maybe\n",
        "/etc/test.conf:3: [DEFAULT] debug = \"maybe\": expected true or false (or 1/0, on/off, yes/no)",
    );
    says(
        "[DEFAULT]\nhost =\n",
        "/etc/test.conf:2: [DEFAULT] host = \"\": expected a value that is not empty",
    );
    says(
        "[progress]\nprefetch = 0\n",
        "/etc/test.conf:2: [progress] prefetch = \"0\": expected a whole number from 1 to 1000",
    );
    says(
        "[progress]\nmode = Sidecar\n",
        "/etc/test.conf:2: [progress] mode = \"Sidecar\": expected one of sidecar, direct, standalone",
    );
    says(
        "[DEFAULT]\nconfig_source = vault\n",
        "/etc/test.conf:2: [DEFAULT] config_source = \"vault\": expected nothing, because what other sources hold is not \
         read here: write transport_url, host and whatever else cinder-volume gets from there into \
         /etc/cinder-progress/cinder-progress.conf, and 'config_source =' with nothing after it",
    );
    says(
        "[progress]\ndd_users = 0, no such user\n",
        "/etc/test.conf:2: [progress] dd_users = \"0, no such user\": expected users by number, or by a name in /etc/passwd of this node, between commas",
    );
    says(
        "[progress]\nproc_root = proc\n",
        "/etc/test.conf:2: [progress] proc_root = \"proc\": expected an absolute path",
    );
    says(
        "[DEFAULT]\nvolume_name_template = volume\n",
        "/etc/test.conf:2: [DEFAULT] volume_name_template = \"volume\": expected a name with %s once, in the \
         place of the volume's id, and no other %",
    );
    says(
        "[DEFAULT]\nrabbit_use_ssl = 1\n[oslo_messaging_rabbit]\nkombu_ssl_version = TLSv1\n",
        "/etc/test.conf:4: [oslo_messaging_rabbit] kombu_ssl_version = \"TLSv1\": expected TLSv1_2, or nothing \
         for the best both sides have; what is older than 1.2 is not spoken",
    );
    says(
        "[oslo_messaging_rabbit]\nssl = 1\nssl_key_file = /k.pem\n",
        "/etc/test.conf:3: [oslo_messaging_rabbit] ssl_key_file = \"/k.pem\": expected ssl_cert_file beside it",
    );
}

/// A queue of a longer name would end the daemon in the middle of its work.
#[test]
fn names_that_amqp_cannot_carry() {
    // Twice and once more what is added to it: "cinder-progress.cinder-volume." + host + "@lvm." + host.
    let host = |bytes: usize| "h".repeat(bytes);
    let named = |bytes| {
        format!(
            "[DEFAULT]\nenabled_backends = lvm\nhost = {}\n",
            host(bytes)
        )
    };
    load_text(&named(110)).expect("255 bytes");
    let expected = "expected a host and a backend whose names are shorter by 2 bytes in all: with what is added to \
                    it, the name of a queue ends at 255 bytes in AMQP";
    says(
        &named(111),
        &format!(
            "/etc/test.conf:3: [DEFAULT] host = {:?}: {expected}",
            host(111)
        ),
    );
    says(
        &format!("{}[lvm]\nbackend_host = {}\n", named(1), host(111)),
        &format!(
            "/etc/test.conf:5: [lvm] backend_host = {:?}: {expected}",
            host(111)
        ),
    );
    says(
        &format!("[DEFAULT]\ncontrol_exchange = {}\n", host(256)),
        &format!(
            "/etc/test.conf:2: [DEFAULT] control_exchange = {:?}: expected a name of at most 255 bytes, as AMQP has it",
            host(256)
        ),
    );
    says(
        &format!(
            "[oslo_messaging_rabbit]\nrabbit_virtual_host = {}\n",
            host(256)
        ),
        &format!(
            "/etc/test.conf:2: [oslo_messaging_rabbit] rabbit_virtual_host = {:?}: expected a name of at most 255 \
             bytes, as AMQP has it, as virtual host",
            host(256)
        ),
    );
}

#[test]
fn queues_that_cannot_be() {
    says(
        "[oslo_messaging_rabbit]\nrabbit_ha_queues = true\nrabbit_quorum_queue = true\n",
        "/etc/test.conf:2: [oslo_messaging_rabbit] rabbit_ha_queues = \"true\": expected false where quorum \
         queues are on: a queue is one or the other",
    );
    says(
        "[oslo_messaging_rabbit]\nrabbit_stream_fanout = true\n",
        "/etc/test.conf:2: [oslo_messaging_rabbit] rabbit_stream_fanout = \"true\": expected \
         rabbit_transient_quorum_queue = true beside it",
    );
    says(
        "[oslo_messaging_rabbit]\nrabbit_stream_fanout = true\nrabbit_transient_quorum_queue = true\n",
        "/etc/test.conf:2: [oslo_messaging_rabbit] rabbit_stream_fanout = \"true\": expected \
         rabbit_qos_prefetch_count above 0 beside it",
    );
}

#[test]
fn names_that_are_not_there() {
    says(
        "[DEFAULT]\nhost = $my_ip\n",
        "/etc/test.conf:2: [DEFAULT] host = \"$my_ip\": expected $my_ip to be the name of an option that is \
         set (a plain $ is written $$)",
    );
    says(
        "[DEFAULT]\nhost = $host\n",
        "/etc/test.conf:2: [DEFAULT] host = \"$host\": expected a value that does not lead back to itself",
    );
}

#[test]
fn commands_that_cannot_be_run() {
    says(
        "[DEFAULT]\nenabled_backends = lvm\n[progress:lvm]\ndriver_command = ask 'a\n",
        "/etc/test.conf:4: [progress:lvm] driver_command = \"ask 'a\": expected a program and its \
         arguments, each quote closed",
    );
    says(
        "[progress]\ndriver_timeout = 0\n",
        "/etc/test.conf:2: [progress] driver_timeout = \"0\": expected a number from 0.1 to 60, in seconds",
    );
}

#[test]
fn options_of_our_own_that_are_not_there() {
    says(
        "[progress]\nprefecth = 3\n",
        "/etc/test.conf:2: [progress] prefecth: there is no such option, did you mean prefetch?",
    );
    says(
        "[DEFAULT]\nenabled_backends = lvm\n[progress:lvm]\nmode = sidecar\n",
        "/etc/test.conf:4: [progress:lvm] mode: there is no such option",
    );
    says(
        "[DEFAULT]\nenabled_backends = lvm1\n[progress:lvm]\nmigration_mode = auto\n",
        "/etc/test.conf:4: [progress:lvm] migration_mode: enabled_backends names no such backend, did you \
         mean lvm1?",
    );
}

#[test]
fn options_of_cinder_that_nobody_knows_are_no_mistake() {
    load_text("[DEFAULT]\nfancy = $nowhere\n[database]\nconnection = x\n").expect("settings");
}

#[test]
fn no_secret_is_ever_quoted() {
    for value in [
        "rabbit://u:HUSH@h:port/",
        "rabbit://u:HU$HUSH@h/",
        "rabbit://u:HU/HUSH@h/",
        "rabbit://u:1?ssl=HUSH@h/",
        "HUSH:HUSH@h/",
        "http://u:HUSH@h/",
        "rabbit://u:[HUSH@[h/",
        "rabbit://u:HUSH@h/?ssl=HUSH",
    ] {
        let error = load_text(&format!("[DEFAULT]\ntransport_url = {value}\n")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("HUSH"), "{error:?}");
        assert!(error.to_string().contains("transport_url"), "{error}");
    }
    for text in [
        "[oslo_messaging_rabbit]\nrabbit_password = $HUSH\n",
        "[DEFAULT]\nnova_password = $HUSH\nhost = $nova_password\n",
        "[DEFAULT]\nHUSH\n",
        "[DEFAULT]\ndebug = $password\npassword = HUSH\n",
    ] {
        let error = load_text(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("HUSH"), "{error:?}");
    }
    let settings = load_text("[DEFAULT]\ntransport_url = rabbit://u:HUSH@h/\n").unwrap();
    assert!(!format!("{settings:?}").contains("HUSH"));
}
