//! Alone or beside a cinder-volume, with one broker or several, with TLS: what is declared, and who is trusted.

mod alone_it_declares_what_oslo_declares;
mod beside_cinder_volume_nothing_is_declared;
mod its_own_topic_is_served_in_every_mode;
mod the_broker_is_known_by_its_certificate;
mod whoever_is_too_many_waits;
mod without_the_right_to_answer_it_takes_nothing;
