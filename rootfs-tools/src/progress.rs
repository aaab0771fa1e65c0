//! How a long operation tells its caller how far it is. Nothing in this crate prints.

/// Told what happens. Calls come one at a time, from any thread.
pub trait Progress: Send {
    /// The work begins: so many bytes are to be read, where that is known.
    fn started(&mut self, _total: Option<u64>) {}

    /// So many more bytes were read, or need not be, because the layer is here already.
    fn advanced(&mut self, _bytes: u64) {}

    /// Something that a person should know and that is no error, as one line without its end.
    fn note(&mut self, _text: &str) {}

    /// The work is done. Not called after an error.
    fn finished(&mut self) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
