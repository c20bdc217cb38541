//! Tests that need a real broker and real oslo.messaging peers. `scripts/test` provides both.
//!
//! One module per behaviour; what they share stands in [`support`].

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod a_caller_that_died_delays_nobody;
mod a_long_queue_needs_little_memory;
mod a_running_copy_is_told_in_percent;
mod a_slow_answer_keeps_its_caller_waiting;
mod alone_it_declares_what_oslo_declares;
mod another_broker_takes_over;
mod any_body_is_handed_over;
mod bad_input_stops_nothing;
mod bad_volumes_are_refused_as_cinder_does_it;
mod beside_cinder_volume_nothing_is_declared;
mod beside_cinder_volume_only_the_progress_call_changes;
mod call_asks_as_cinder_api_does;
mod check_says_what_is_wrong;
mod cinder_volume_may_come_and_go;
mod every_way_to_ask_is_answered;
mod it_is_seen_from_outside;
mod killed_at_any_step_of_a_hand_over;
mod nothing_goes_to_and_fro;
mod operations_arrive_once_and_in_order;
mod own_broker;
mod peers_talk;
mod progress_calls_hold_up_nobody;
mod questions_leave_no_trace;
mod settings_are_read_again;
mod support;
mod systemd_is_told_how_it_stands;
mod the_broker_is_known_by_its_certificate;
mod the_broker_may_fail;
mod the_daemon_may_end_at_any_time;
mod the_log_is_fit_to_be_read;
mod the_network_may_fail;
mod the_topic_queue_may_refuse;
mod what_is_handed_over_is_unchanged;
mod what_is_not_served_is_refused;
mod whoever_is_too_many_is_refused;
