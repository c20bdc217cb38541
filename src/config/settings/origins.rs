//! Where the most important options were set, for `check`.

use super::inputs::Inputs;
use super::options;
use crate::config::Origin;

/// Where each of these was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    /// `transport_url`. If it is not set: the strongest of the options that came before it.
    pub brokers: Origin,
    /// `control_exchange`
    pub control_exchange: Origin,
    /// `host`
    pub host: Origin,
    /// `enabled_backends`
    pub enabled_backends: Origin,
    /// `[progress] mode`
    pub mode: Origin,
}

pub(in crate::config) fn read(inputs: &Inputs) -> Origins {
    use options as o;
    let brokers = [&o::TRANSPORT_URL, &o::RABBIT_HOSTS, &o::RABBIT_HOST];
    let brokers = brokers.map(|option| inputs.origin(option));
    Origins {
        brokers: brokers
            .into_iter()
            .find(|origin| *origin != Origin::Default)
            .unwrap_or(Origin::Default),
        control_exchange: inputs.origin(&o::CONTROL_EXCHANGE),
        host: inputs.origin(&o::HOST),
        enabled_backends: inputs.origin(&o::ENABLED_BACKENDS),
        mode: inputs.origin(&o::MODE),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load_with_origins};

    #[test]
    fn each_is_the_line_or_the_variable_that_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cinder.conf");
        let text = "[DEFAULT]\nhost = a\nhost = b\nenabled_backends = x\n\
                    [oslo_messaging_rabbit]\nrabbit_host = r\n";
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            config_files: vec![file.clone()],
            environment: vec![("OS_DEFAULT__ENABLED_BACKENDS".into(), "y".into())],
            ..Sources::default()
        };
        let (_, origins) = load_with_origins(&sources).unwrap();
        let line = |number: u32| format!("{}:{number}", file.display());
        assert_eq!(origins.host.to_string(), line(3));
        assert_eq!(origins.brokers.to_string(), line(6));
        assert_eq!(
            origins.enabled_backends.to_string(),
            "environment variable OS_DEFAULT__ENABLED_BACKENDS"
        );
        assert_eq!(origins.mode.to_string(), "built-in default");
    }
}
