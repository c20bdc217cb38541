//! Answers `get_migrate_volume_progress` beside an unmodified cinder-volume.

/// One supervised broker connection: topology, consumers, hand-over, replies. Knows lapin, knows no RPC.
pub mod amqp;
/// The command line, one file per verb.
pub mod cli;
/// oslo.config files, transport_url and the typed settings made from them.
pub mod config;
/// How far a copy is: processes, devices and the memory of what was seen. Knows neither broker nor RPC.
pub mod progress;
/// The wire of oslo.messaging RPC: pure functions on bytes and values.
pub mod rpc;
