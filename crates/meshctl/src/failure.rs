//! What a verb answers and how errors become exit codes: the only place that knows the four numbers.
//!
//! 0 yes; 1 no (a refused verdict, a difference, a failed check, a conflict); 2 a usage or input error; 3 the control
//! plane cannot be reached.

use std::io::{self, Write};
use std::process::ExitCode;

use tonic::{Code, Status};

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

/// The answer is no, and the error text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SaysNo(pub(crate) String);

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
    for cause in error.chain() {
        if cause.is::<Unreachable>() {
            return UNREACHABLE;
        }
        if cause.is::<SaysNo>() {
            return NO;
        }
        if let Some(Refused(status)) = cause.downcast_ref() {
            return status_code(status.code());
        }
    }
    INPUT
}

fn status_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => INPUT,
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
            (Status::unavailable("x"), UNREACHABLE),
        ] {
            assert_eq!(
                exit_code(&anyhow::Error::new(Refused(status.clone()))),
                expected,
                "{status}"
            );
        }
    }
}
