//! One transaction: what it takes along, filling it, and publishing.

use std::pin::pin;
use std::task::Poll;

use futures_util::poll;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicPublishOptions};
use lapin::{BasicProperties, Channel};

use super::redeliveries::{OFTEN, redeliveries};
use super::stand_aside::StandAside;
use crate::amqp::message::{Disposition, Message};
use crate::amqp::topology::TopicNames;

/// Messages of one transaction at most, so at most so many can be refused together by a limit on T's length, which no
/// client can see.
pub(super) const WINDOW: usize = 16;

/// A message in hand and what is to become of it.
pub(super) type Judged = (Delivery, Disposition);

/// A delivery and what `take` makes of it.
pub(super) fn judged(delivery: Delivery, take: &impl Fn(Message<'_>) -> Disposition) -> Judged {
    let disposition = take(Message::of(&delivery));
    (delivery, disposition)
}

pub(super) fn is_to_hand_over((_, disposition): &Judged) -> bool {
    *disposition == Disposition::HandOver
}

pub(super) fn to_hand_over(messages: &[Judged]) -> Vec<&Delivery> {
    messages
        .iter()
        .filter(|message| is_to_hand_over(message))
        .map(|(delivery, _)| delivery)
        .collect()
}

/// RabbitMQ routes a message with a `CC` header to the queues it names, too, each time it is
/// published. (`BCC` is taken out on the way.) oslo.messaging sets neither.
fn asks_for_copies(delivery: &Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref();
    headers.is_some_and(|headers| headers.inner().contains_key("CC"))
}

/// How far a batch with `window` messages to hand over goes, with ours before, between and behind them.
///
/// One that has come back often goes alone, and one that cannot be handed over ends it: 0 if that
/// is the next one.
pub(super) fn batch_end(messages: &[Judged], window: usize) -> usize {
    let mut room = window;
    for (at, message) in messages.iter().enumerate() {
        if !is_to_hand_over(message) {
            continue;
        }
        let (delivery, _) = message;
        let often = redeliveries(delivery) >= OFTEN;
        if asks_for_copies(delivery) || room == 0 || (often && room < window) {
            return at;
        }
        room = if often { 0 } else { room - 1 };
    }
    messages.len()
}

/// Fills a transaction: messages to T or to us, all off Q. The publishes are written when it returns, and the
/// acknowledgement is in line; nothing but the commit or the end of the channel may follow.
///
/// # Errors
///
/// Why it must not be committed.
pub(super) async fn prepare(
    channel: &Channel,
    names: &TopicNames,
    messages: &[Judged],
) -> Result<(), StandAside> {
    publish(channel, &names.topic, &to_hand_over(messages)).await?;
    let Some((last, _)) = messages.last() else {
        return Ok(());
    };
    if !last.acker.usable() {
        // Stale: it will come again. Committed now, the publishes would stand alone.
        return Err(StandAside::Cancelled(names.server.clone()));
    }
    // One poll puts the frame in line, and the commit, which the channel is given next, stands behind it: both leave in
    // one packet. (lapin's `Acker` gives the frame to a task of its own, which a commit could overtake.)
    let all = BasicAckOptions { multiple: true };
    let acknowledging = pin!(channel.basic_ack(last.delivery_tag, all));
    if let Poll::Ready(acknowledged) = poll!(acknowledging) {
        acknowledged?;
    }
    Ok(())
}

/// Publishes all to `queue` in order; returns when all are written to the socket.
async fn publish(
    channel: &Channel,
    queue: &str,
    deliveries: &[&Delivery],
) -> Result<(), lapin::Error> {
    let mut writing = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let mut write = Box::pin(publish_one(
            channel,
            queue,
            &delivery.properties,
            &delivery.data,
        ));
        // The first poll puts the frames in line: in this order, without waiting for each.
        match poll!(write.as_mut()) {
            Poll::Ready(written) => drop(written?),
            Poll::Pending => writing.push(write),
        }
    }
    for write in writing {
        drop(write.await?);
    }
    Ok(())
}

/// Publishes one message to `queue`, to be returned if it is not there.
///
/// # Errors
///
/// What ended the channel.
pub(super) async fn publish_one(
    channel: &Channel,
    queue: &str,
    properties: &BasicProperties,
    body: &[u8],
) -> Result<lapin::PublisherConfirm, lapin::Error> {
    channel
        .basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            },
            body,
            properties.clone(),
        )
        .await
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;

    /// `t` is to be handed over, `o` is ours, `r` is to be handed over and has come back often, `c` asks for copies.
    fn hand(kinds: &str) -> Vec<Judged> {
        kinds
            .chars()
            .map(|kind| {
                let mut delivery = Delivery::mock(1, "".into(), "q".into(), false, vec![]);
                let mut headers = FieldTable::default();
                for (letter, header, value) in [
                    ('r', "x-delivery-count", AMQPValue::LongLongInt(2)),
                    ('c', "CC", AMQPValue::Boolean(true)),
                ] {
                    if letter == kind {
                        headers.insert(header.into(), value);
                    }
                }
                delivery.properties = BasicProperties::default().with_headers(headers);
                let disposition = if kind == 'o' {
                    Disposition::Taken
                } else {
                    Disposition::HandOver
                };
                (delivery, disposition)
            })
            .collect()
    }

    #[test]
    fn a_window_counts_what_is_handed_over_and_takes_ours_along() {
        for (hand_of, window, end) in [
            ("ttttt", 1, 1),
            ("ttttt", 4, 4),
            ("ttttt", 16, 5),
            ("oottot", 1, 3),
            ("otoo", 1, 4),
            ("oooo", 1, 4),
            ("t", 1, 1),
        ] {
            assert_eq!(batch_end(&hand(hand_of), window), end, "{hand_of} {window}");
        }
    }

    #[test]
    fn what_came_back_often_goes_alone() {
        for (hand_of, window, end) in [
            ("rt", 16, 1),
            ("ttrtt", 16, 2),
            ("orot", 16, 3),
            ("rr", 16, 1),
            ("r", 1, 1),
        ] {
            assert_eq!(batch_end(&hand(hand_of), window), end, "{hand_of} {window}");
        }
    }

    #[test]
    fn what_cannot_be_handed_over_takes_nothing_along() {
        for (hand_of, end) in [("ttctt", 2), ("oct", 1), ("c", 0)] {
            assert_eq!(batch_end(&hand(hand_of), 16), end, "{hand_of}");
        }
    }
}
