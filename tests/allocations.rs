//! How often memory is asked for to understand a call and to write its answer: a body of some five KiB has
//! hundreds of values, of which next to nothing may be built.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use allocation_counter::{AllocationInfo, measure};
use cinder_progress::rpc::dispatcher::{Api, Dispatch, dispatch};
use cinder_progress::rpc::request::{ReplyTo, Request, RequestFields};
use cinder_progress::rpc::version::Version;
use cinder_progress::rpc::{envelope, reply};

/// What is kept of a call: its ids, and a volume's texts. The rest is the growing of the text that comes out of the
/// envelope.
const CALL: u64 = 32;

/// The message in a string of its own, the body, and both growing.
const ANSWER: u64 = 24;

/// The body of a call that was captured from a real peer.
fn captured(release: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
    let path = folder.join(format!("call-get_migrate_volume_progress.{release}.json"));
    let message: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    message["body"].as_str().unwrap().as_bytes().to_vec()
}

fn said(what: &str, info: &AllocationInfo) {
    eprintln!(
        "{what}: {} allocations, {} bytes in all, {} at once",
        info.count_total, info.bytes_total, info.bytes_max
    );
}

#[test]
fn a_call_is_read_without_building_what_is_not_needed() {
    let api = Api {
        version: Version::new(3, 11),
        ping_enabled: false,
    };
    for release in ["ocata", "latest"] {
        let body = captured(release);
        let info = measure(|| {
            let text = envelope::open(&body, None, body.len()).unwrap();
            let request = Request::from_message(RequestFields::read(&text).unwrap()).unwrap();
            assert!(matches!(dispatch(&request, &api), Dispatch::Progress(_)));
        });
        said(&format!("a call of {} bytes, {release}", body.len()), &info);
        assert!(info.count_total <= CALL, "{info:?}");
        assert!(info.bytes_max <= 4 * body.len() as u64, "{info:?}");
    }
}

#[test]
fn an_answer_is_written_without_a_tree_of_it() {
    let to = ReplyTo {
        queue: "reply_143a11936ed243fea4440dfa5f70608e".to_owned(),
        msg_id: "ff40677989834f6696dfe3fe133080f1".to_owned(),
    };
    let info = measure(|| drop(reply::success(&to, "42")));
    said("an answer", &info);
    assert!(info.count_total <= ANSWER, "{info:?}");
}
