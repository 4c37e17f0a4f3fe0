//! Rows as they pass a [`ResponseTracker`](crate::ResponseTracker), for who wants to look at them.

/// Takes the payloads of a response's packets in order, and is told which of them were rows.
///
/// A payload may come in pieces; the headers inside a logical packet of several pieces are left out. The unit type takes
/// nothing, at no cost.
pub trait RowSink {
    /// The next bytes of the packet under way, of which it is not known yet whether it is a row.
    fn on_payload(&mut self, piece: &[u8]);

    /// The packet under way is complete. If it was no row, what came of it is to be forgotten.
    fn on_end(&mut self, is_row: bool);

    /// A whole row.
    fn on_row(&mut self, payload: &[u8]) {
        self.on_payload(payload);
        self.on_end(true);
    }
}

impl RowSink for () {
    #[inline]
    fn on_payload(&mut self, _: &[u8]) {}

    #[inline]
    fn on_end(&mut self, _: bool) {}
}
