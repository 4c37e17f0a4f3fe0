//! Commands: the first payload byte of what a client sends, and how each is answered.
//!
//! Sources: [MySQL command phase](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html),
//! [MariaDB commands](https://mariadb.com/kb/en/2-text-protocol/).

use std::fmt;

/// A command byte. Unknown values are kept, so that they can be named in an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Command(pub u8);

/// The form of a command's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseForm {
    /// Nothing comes back.
    None,
    /// One packet: OK, EOF or ERR.
    Status,
    /// One packet: a string without a header byte, or ERR (COM_STATISTICS).
    Text,
    /// OK, ERR, a LOCAL INFILE request or a text result set; more may follow (COM_QUERY).
    Query,
    /// OK, ERR or a binary result set, perhaps only its head with a cursor; more may follow (COM_STMT_EXECUTE).
    Execute,
    /// COM_STMT_PREPARE_OK with the definitions of parameters and columns, or ERR.
    Prepare,
    /// Binary rows up to EOF, without a head (COM_STMT_FETCH).
    Fetch,
    /// Column definitions up to EOF (COM_FIELD_LIST).
    FieldList,
    /// An authentication exchange up to OK or ERR, in which the client speaks too (COM_CHANGE_USER): no response that
    /// could be followed from the server's side alone.
    Authentication,
    /// Event packets up to EOF or ERR, or for ever (COM_BINLOG_DUMP).
    Binlog,
}

impl ResponseForm {
    /// Whether the packets between head and end are rows of a result set.
    pub const fn has_rows(self) -> bool {
        matches!(self, Self::Query | Self::Execute | Self::Fetch)
    }

    /// Whether the server's packets follow each other by sequence id: not in a binary log, which is not a response of
    /// the ordinary kind.
    pub const fn is_one_way(self) -> bool {
        !matches!(self, Self::Binlog)
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $byte:literal => $form:ident;)*) => {
        impl Command {
            $($(#[$doc])* pub const $name: Self = Self($byte);)*

            /// How the command is answered; none if the command is not known and must not be forwarded, because
            /// nobody could tell where its answer ends. Commands that are internal to the server, or that no server
            /// has any more, are not known either: servers answer them with ERR 1047, and so does a proxy.
            pub const fn response_form(self) -> Option<ResponseForm> {
                match self.0 {
                    $($byte => Some(ResponseForm::$form),)*
                    _ => None,
                }
            }

            const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($byte => Some(concat!("COM_", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    /// Ends the session.
    QUIT = 0x01 => None;
    /// Changes the default database.
    INIT_DB = 0x02 => Status;
    /// One or more SQL statements.
    QUERY = 0x03 => Query;
    /// The columns of a table.
    FIELD_LIST = 0x04 => FieldList;
    /// CREATE DATABASE, in old servers.
    CREATE_DB = 0x05 => Status;
    /// DROP DATABASE, in old servers.
    DROP_DB = 0x06 => Status;
    /// FLUSH.
    REFRESH = 0x07 => Status;
    /// SHUTDOWN.
    SHUTDOWN = 0x08 => Status;
    /// A line of text about the server.
    STATISTICS = 0x09 => Text;
    /// SHOW PROCESSLIST.
    PROCESS_INFO = 0x0a => Query;
    /// KILL.
    PROCESS_KILL = 0x0c => Status;
    /// Debug information into the server's log.
    DEBUG = 0x0d => Status;
    /// Is the server there?
    PING = 0x0e => Status;
    /// Logs in anew over the same connection.
    CHANGE_USER = 0x11 => Authentication;
    /// The binary log from a position.
    BINLOG_DUMP = 0x12 => Binlog;
    /// Announces a replica.
    REGISTER_SLAVE = 0x15 => Status;
    /// Prepares a statement.
    STMT_PREPARE = 0x16 => Prepare;
    /// Executes a prepared statement.
    STMT_EXECUTE = 0x17 => Execute;
    /// A piece of a parameter's value.
    STMT_SEND_LONG_DATA = 0x18 => None;
    /// Forgets a prepared statement.
    STMT_CLOSE = 0x19 => None;
    /// Drops a statement's cursor and long data.
    STMT_RESET = 0x1a => Status;
    /// Switches multi-statements on or off.
    SET_OPTION = 0x1b => Status;
    /// Rows of a cursor.
    STMT_FETCH = 0x1c => Fetch;
    /// The binary log from a GTID set (MySQL).
    BINLOG_DUMP_GTID = 0x1e => Binlog;
    /// Resets the session's state.
    RESET_CONNECTION = 0x1f => Status;
    /// Executes a prepared statement for many rows of parameters (MariaDB).
    STMT_BULK_EXECUTE = 0xfa => Execute;
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "command {:#04x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_name_and_a_form_or_neither() {
        for byte in 0..=255 {
            let command = Command(byte);
            assert_eq!(command.name().is_some(), command.response_form().is_some());
        }
        assert_eq!(Command::STMT_BULK_EXECUTE.to_string(), "COM_STMT_BULK_EXECUTE");
        assert_eq!(Command(0xfe).to_string(), "command 0xfe");
    }
}
