//! What a verb answers and how errors become exit codes: the only place that knows the four numbers.
//!
//! 0 yes; 1 no (a refused verdict, a difference, a failed check, a conflict, and whatever fails while it runs); 2 a usage
//! or input error: what was typed, or a file that was named; 3 the control plane cannot be reached.
//!
//! An error without a class is an input error, for most are made where input is read. What fails at run time says so: by
//! [`SaysNo`] as the error or as its context, or by its type.

use std::io::{self, Write};
use std::process::ExitCode;

use tonic::{Code, Status};
use weft_identity::VerifyError;
use weft_wire::ConversionError;

/// What a verb found out, when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

impl Answer {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Answer::Yes => ExitCode::SUCCESS,
            Answer::No => ExitCode::from(NO),
        }
    }
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Answer::Yes } else { Answer::No }
    }
}

/// The control plane cannot be reached: no connection, or a handshake that does not show the control plane.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the control plane at {address}: {problem}")]
pub(crate) struct Unreachable {
    pub(crate) address: String,
    pub(crate) problem: String,
}

/// The control plane answered no to a call.
#[derive(Debug, thiserror::Error)]
#[error("{}", friendly(.0))]
pub(crate) struct Refused(pub(crate) Status);

/// The answer is no, and the error text says why. As the context of another error it decides the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SaysNo(pub(crate) String);

impl SaysNo {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// An answer that could not be written, inside an `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the answer: {0}")]
pub(crate) struct NotWritten(io::Error);

impl NotWritten {
    pub(crate) fn wrap(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(error))
    }
}

/// Prints what clap has to say: help goes to standard output and is a yes, anything else is a usage error.
pub(crate) fn usage(answer: &clap::Error) -> ExitCode {
    // A closed pipe while printing help changes nothing about the answer.
    let _ = answer.print();
    if answer.use_stderr() {
        ExitCode::from(INPUT)
    } else {
        ExitCode::SUCCESS
    }
}

/// Prints an error with its causes and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let mut text = String::from("meshctl: ");
    for (level, cause) in error.chain().enumerate() {
        if level > 0 {
            text.push_str(": ");
        }
        text.push_str(cause.to_string().trim_end());
    }
    text.push('\n');
    // Nobody is left to tell when standard error is closed.
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    // Also where it is the context of another error, which the chain does not show as a type.
    if error.is::<SaysNo>() {
        return NO;
    }
    for cause in error.chain() {
        if cause.is::<Unreachable>() {
            return UNREACHABLE;
        }
        if failed_at_run_time(cause) {
            return NO;
        }
        if let Some(Refused(status)) = cause.downcast_ref() {
            return status_code(status.code());
        }
    }
    INPUT
}

/// What the control plane sent cannot be read or verified, or what it said cannot be written.
fn failed_at_run_time(cause: &(dyn std::error::Error + 'static)) -> bool {
    let is_unwritten = |error: &io::Error| {
        error
            .get_ref()
            .is_some_and(|inner| inner.is::<NotWritten>())
    };
    cause.is::<SaysNo>()
        || cause.is::<ConversionError>()
        || cause.is::<VerifyError>()
        || cause.downcast_ref().is_some_and(is_unwritten)
}

fn status_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange => INPUT,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => UNREACHABLE,
        _ => NO,
    }
}

/// One line for people, with what to do where something can be done.
fn friendly(status: &Status) -> String {
    let message = status.message();
    match status.code() {
        Code::Unavailable => {
            format!("the control plane went away: {message}; `meshctl check` says more")
        }
        Code::DeadlineExceeded => format!("the control plane did not answer in time: {message}"),
        Code::Unauthenticated => format!(
            "the control plane does not accept this operator certificate: {message}; `meshctl login` makes a new one"
        ),
        Code::PermissionDenied => format!("not permitted: {message}"),
        Code::Aborted => format!(
            "conflict: {message}; somebody changed it meanwhile, look at it again with `meshctl get`"
        ),
        Code::Unimplemented => {
            "this control plane is older than this meshctl and does not know the call".to_owned()
        }
        _ => message.to_owned(),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

const NO: u8 = 1;
const INPUT: u8 = 2;
const UNREACHABLE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unclassified_error_is_an_input_error() {
        assert_eq!(exit_code(&anyhow::anyhow!("no such file")), INPUT);
    }

    #[test]
    fn what_fails_at_run_time_is_a_no_as_an_error_and_as_a_context() {
        let unreachable = || Unreachable {
            address: "127.0.0.1:1".into(),
            problem: "refused".into(),
        };
        let full = NotWritten::wrap(io::Error::from(io::ErrorKind::StorageFull));
        let conversion = ConversionError {
            path: "spec".into(),
            problem: weft_wire::Problem::Missing,
        };
        for error in [
            SaysNo::new("no").into(),
            anyhow::Error::from(SaysNo::new("no")).context("outer"),
            anyhow::Error::from(unreachable()).context(SaysNo::new("the mesh did not start")),
            anyhow::Error::from(unreachable())
                .context(SaysNo::new("the mesh did not start"))
                .context("outer"),
            full.into(),
            conversion.into(),
            anyhow::Error::from(VerifyError::NoCertificate).context("outer"),
        ] {
            assert_eq!(exit_code(&error), NO, "{error:#}");
        }
    }

    #[test]
    fn an_unreachable_control_plane_is_3_below_any_context() {
        let error = anyhow::Error::new(Unreachable {
            address: "127.0.0.1:1".into(),
            problem: "refused".into(),
        })
        .context("listing");
        assert_eq!(exit_code(&error), UNREACHABLE);
    }

    #[test]
    fn a_status_decides_between_no_input_and_unreachable() {
        for (status, expected) in [
            (Status::invalid_argument("x"), INPUT),
            (Status::not_found("x"), NO),
            (Status::aborted("x"), NO),
            (Status::permission_denied("x"), NO),
            // An older control plane: nothing is wrong with what was typed.
            (Status::unimplemented("x"), NO),
            (Status::unauthenticated("x"), NO),
            (Status::unavailable("x"), UNREACHABLE),
            (Status::deadline_exceeded("x"), UNREACHABLE),
        ] {
            assert_eq!(
                exit_code(&anyhow::Error::new(Refused(status.clone()))),
                expected,
                "{status}"
            );
        }
    }
}
