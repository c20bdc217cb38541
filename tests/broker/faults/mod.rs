//! Whatever fails, no operation is lost or executed twice: broker, network, cinder-volume and the daemon.

mod a_node_of_a_cluster_may_fail;
mod another_broker_takes_over;
mod cinder_volume_may_come_and_go;
mod its_memory_may_be_full;
mod killed_at_any_step_of_a_hand_over;
mod the_broker_may_fail;
mod the_daemon_may_end_at_any_time;
mod the_network_may_fail;
mod the_topic_queue_may_refuse;
