//! Every option that the daemon reads: group, name, older spellings and default.
//!
//! Names and defaults of `[oslo_messaging_rabbit]` are those of oslo.messaging 18.3. Names and defaults of the
//! single-broker options that came before `transport_url` are those of Ocata (oslo.messaging 5.17). The older
//! spellings are those that any release between these two accepted.

/// Group of the daemon's own options.
pub(in crate::config) const PROGRESS: &str = "progress";
/// Prefix of the groups for options that differ by backend.
pub(super) const PROGRESS_OF_BACKEND: &str = "progress:";
/// Group of the options that the rabbit driver reads.
pub(in crate::config) const RABBIT: &str = "oslo_messaging_rabbit";

/// One option.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Opt {
    pub group: &'static str,
    pub name: &'static str,
    /// Older (group, name) pairs of the same option. Within one source the present name wins.
    pub older: &'static [(&'static str, &'static str)],
    /// Default as a file would have it. That of `host` is empty here: its default is the machine's host name.
    pub default: &'static str,
    /// Whether errors must not show the value.
    pub secret: bool,
}

impl Opt {
    /// The present spelling, then the older ones.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        std::iter::once((self.group, self.name)).chain(self.older.iter().copied())
    }
}

macro_rules! options {
    ($($id:ident = [$group:expr] $name:literal $default:expr
        $(, older $older:expr)? $(, secret $secret:literal)?;)*) => {
        $(pub(in crate::config) const $id: Opt = Opt {
            group: $group,
            name: $name,
            older: options!(@or &[] $(, $older)?),
            default: $default,
            secret: options!(@or false $(, $secret)?),
        };)*

        /// All of them.
        pub(in crate::config) const ALL: &[Opt] = &[$($id),*];
    };
    (@or $otherwise:expr) => { $otherwise };
    (@or $otherwise:expr, $given:expr) => { $given };
}

options! {
    HOST = ["DEFAULT"] "host" "";
    DEBUG = ["DEFAULT"] "debug" "false";
    CONTROL_EXCHANGE = ["DEFAULT"] "control_exchange" "openstack";
    ENABLED_BACKENDS = ["DEFAULT"] "enabled_backends" "";
    VOLUME_NAME_TEMPLATE = ["DEFAULT"] "volume_name_template" "volume-%s";
    RPC_PING_ENABLED = ["DEFAULT"] "rpc_ping_enabled" "false";
    RPC_RESPONSE_TIMEOUT = ["DEFAULT"] "rpc_response_timeout" "60";
    CLUSTER = ["DEFAULT"] "cluster" "";
    CONFIG_SOURCE = ["DEFAULT"] "config_source" "";
    TRANSPORT_URL = ["DEFAULT"] "transport_url" "rabbit://", secret true;

    RABBIT_HOST = [RABBIT] "rabbit_host" "localhost", older &[("DEFAULT", "rabbit_host")];
    RABBIT_PORT = [RABBIT] "rabbit_port" "5672", older &[("DEFAULT", "rabbit_port")];
    RABBIT_HOSTS = [RABBIT] "rabbit_hosts" "$rabbit_host:$rabbit_port",
        older &[("DEFAULT", "rabbit_hosts")];
    RABBIT_USERID = [RABBIT] "rabbit_userid" "guest", older &[("DEFAULT", "rabbit_userid")];
    RABBIT_PASSWORD = [RABBIT] "rabbit_password" "guest",
        older &[("DEFAULT", "rabbit_password")], secret true;
    RABBIT_VIRTUAL_HOST = [RABBIT] "rabbit_virtual_host" "/",
        older &[("DEFAULT", "rabbit_virtual_host")];

    SSL = [RABBIT] "ssl" "false",
        older &[(RABBIT, "rabbit_use_ssl"), ("DEFAULT", "rabbit_use_ssl")];
    SSL_VERSION = [RABBIT] "ssl_version" "",
        older &[(RABBIT, "kombu_ssl_version"), ("DEFAULT", "kombu_ssl_version")];
    SSL_CA_FILE = [RABBIT] "ssl_ca_file" "",
        older &[(RABBIT, "kombu_ssl_ca_certs"), ("DEFAULT", "kombu_ssl_ca_certs")];
    SSL_CERT_FILE = [RABBIT] "ssl_cert_file" "",
        older &[(RABBIT, "kombu_ssl_certfile"), ("DEFAULT", "kombu_ssl_certfile")];
    SSL_KEY_FILE = [RABBIT] "ssl_key_file" "",
        older &[(RABBIT, "kombu_ssl_keyfile"), ("DEFAULT", "kombu_ssl_keyfile")];
    SSL_ENFORCE_HOSTNAME_VERIFICATION = [RABBIT] "ssl_enforce_hostname_verification" "true";

    LOGIN_METHOD = [RABBIT] "rabbit_login_method" "AMQPLAIN",
        older &[("DEFAULT", "rabbit_login_method")];
    FAILOVER_STRATEGY = [RABBIT] "kombu_failover_strategy" "round-robin";
    HEARTBEAT_TIMEOUT_THRESHOLD = [RABBIT] "heartbeat_timeout_threshold" "60";
    RECONNECT_DELAY = [RABBIT] "kombu_reconnect_delay" "1.0",
        older &[("DEFAULT", "kombu_reconnect_delay")];
    RECONNECT_SPLAY = [RABBIT] "kombu_reconnect_splay" "0.0";
    RETRY_INTERVAL = [RABBIT] "rabbit_retry_interval" "1";
    RETRY_BACKOFF = [RABBIT] "rabbit_retry_backoff" "2",
        older &[("DEFAULT", "rabbit_retry_backoff")];
    INTERVAL_MAX = [RABBIT] "rabbit_interval_max" "30";
    MISSING_CONSUMER_RETRY_TIMEOUT = [RABBIT] "kombu_missing_consumer_retry_timeout" "60",
        older &[(RABBIT, "kombu_reconnect_timeout")];

    DURABLE_QUEUES = [RABBIT] "amqp_durable_queues" "false",
        older &[("DEFAULT", "amqp_durable_queues"), ("DEFAULT", "rabbit_durable_queues")];
    AUTO_DELETE = [RABBIT] "amqp_auto_delete" "false", older &[("DEFAULT", "amqp_auto_delete")];
    HA_QUEUES = [RABBIT] "rabbit_ha_queues" "false", older &[("DEFAULT", "rabbit_ha_queues")];
    QUORUM_QUEUE = [RABBIT] "rabbit_quorum_queue" "false";
    TRANSIENT_QUORUM_QUEUE = [RABBIT] "rabbit_transient_quorum_queue" "false";
    STREAM_FANOUT = [RABBIT] "rabbit_stream_fanout" "false";
    QUORUM_DELIVERY_LIMIT = [RABBIT] "rabbit_quorum_delivery_limit" "0";
    QUORUM_MAX_MEMORY_LENGTH = [RABBIT] "rabbit_quorum_max_memory_length" "0",
        older &[(RABBIT, "rabbit_quroum_max_memory_length")];
    QUORUM_MAX_MEMORY_BYTES = [RABBIT] "rabbit_quorum_max_memory_bytes" "0",
        older &[(RABBIT, "rabbit_quroum_max_memory_bytes")];
    TRANSIENT_QUEUES_TTL = [RABBIT] "rabbit_transient_queues_ttl" "1800";
    QOS_PREFETCH_COUNT = [RABBIT] "rabbit_qos_prefetch_count" "0";
    CANCEL_ON_FAILOVER = [RABBIT] "enable_cancel_on_failover" "false";

    MODE = [PROGRESS] "mode" "sidecar";
    RPC_VERSION = [PROGRESS] "rpc_version" "3.11";
    MIGRATION_MODE = [PROGRESS] "migration_mode" "auto";
    DRIVER_COMMAND = [PROGRESS] "driver_command" "";
    DRIVER_TIMEOUT = [PROGRESS] "driver_timeout" "5";
    UNKNOWN_PROGRESS = [PROGRESS] "unknown_progress" "NA";
    CONSUMER_PRIORITY = [PROGRESS] "consumer_priority" "10";
    PREFETCH = [PROGRESS] "prefetch" "64";
    SCAN_INTERVAL = [PROGRESS] "scan_interval" "1";
    PROC_ROOT = [PROGRESS] "proc_root" "/proc";
    SYS_ROOT = [PROGRESS] "sys_root" "/sys";
    DEV_ROOT = [PROGRESS] "dev_root" "/dev";
    DD_USERS = [PROGRESS] "dd_users" "";
    STATE_FILE = [PROGRESS] "state_file" "/run/cinder-progress/state.json";
    METRICS_LISTEN = [PROGRESS] "metrics_listen" "";
    TLS_VERIFY = [PROGRESS] "tls_verify" "true";
}

/// The option of a backend's own section that renames its host.
pub(super) const BACKEND_HOST: &str = "backend_host";

/// The options of `[progress:<backend>]`. An option that is not set there is taken from `[progress]`.
pub(in crate::config) const PER_BACKEND: &[Opt] = &[MIGRATION_MODE, DRIVER_COMMAND, DRIVER_TIMEOUT];

/// The option that `[group] name` sets, by its present or an older spelling.
pub(in crate::config) fn known(group: &str, name: &str) -> Option<&'static Opt> {
    ALL.iter()
        .find(|option| option.names().any(|spelling| spelling == (group, name)))
}
