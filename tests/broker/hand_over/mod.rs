//! What is not ours reaches cinder-volume: once, in order, unchanged and without delay.

mod a_long_queue_needs_little_memory;
mod any_body_is_handed_over;
mod beside_cinder_volume_only_the_progress_call_changes;
mod many_may_ask_at_once;
mod nothing_goes_to_and_fro;
mod operations_arrive_once_and_in_order;
mod progress_calls_hold_up_nobody;
mod questions_leave_no_trace;
mod what_is_handed_over_is_unchanged;
