//! Any bytes as a PROXY header.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Ends, FIXED_LEN, HeaderError, MAX_LEN, read};
use crate::fuzzing::within;

/// No header takes what is behind it; what is one with something behind it is the same without, and none with less.
pub(crate) fn proxy_header(input: &[u8]) {
    // A few words of an error, and the header in a vector that grows.
    let (result, left) = within(2 * input.len() + 1024, || read_all(input));
    let len = input.len() - left.len();
    assert!(len <= FIXED_LEN + usize::from(MAX_LEN), "{len} bytes");
    if let Ok(ends) = result {
        assert!(matches!(read_all(&input[..len]), (Ok(again), []) if again == ends));
        for less in (0..len).rev().take(300) {
            assert!(read_all(&input[..less]).0.is_err(), "{less} of {len} bytes are enough");
        }
    }
}

/// What `bytes` are read as, and what of them is left. They end there.
fn read_all(mut bytes: &[u8]) -> (Result<Option<Ends>, HeaderError>, &[u8]) {
    let result = {
        let reading = pin!(read(&mut bytes));
        reading.poll(&mut Context::from_waker(Waker::noop()))
    };
    match result {
        Poll::Ready(result) => (result, bytes),
        Poll::Pending => panic!("waits for more than there is"),
    }
}
