//! Progress calls: each is answered, as cinder itself would, whoever asks and however.

mod a_caller_that_died_delays_nobody;
mod a_running_copy_is_told_in_percent;
mod a_slow_answer_keeps_its_caller_waiting;
mod bad_input_stops_nothing;
mod bad_volumes_are_refused_as_cinder_does_it;
mod every_way_to_ask_is_answered;
mod what_is_not_served_is_refused;
