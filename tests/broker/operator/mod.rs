//! What an operator sees and does: verbs, metrics, log lines, the service manager and new settings.

mod call_asks_as_cinder_api_does;
mod check_says_what_is_wrong;
mod it_is_seen_from_outside;
mod prometheus_sees_what_the_dashboard_shows;
mod settings_are_read_again;
mod systemd_is_told_how_it_stands;
mod the_log_is_fit_to_be_read;
