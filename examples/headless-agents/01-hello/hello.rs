//! Greets whoever the input names. Reads JSON from its standard input and writes a line, like any program.

use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut input = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut input) {
        eprintln!("cannot read the input: {error}");
        return ExitCode::FAILURE;
    }
    let Some(name) = text(&input, "name") else {
        eprintln!("the input has no name; give one with --input '{{\"name\":\"world\"}}'");
        return ExitCode::from(2);
    };
    println!("Hello, {name}!");
    let workload = std::env::vars().find(|(key, _)| key == "LANTERN_VM_ID");
    if let Some((_, id)) = workload {
        eprintln!("said by {id}");
    }
    ExitCode::SUCCESS
}

/// The text of a field of a flat JSON object, as far as a greeting needs it.
fn text<'a>(json: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{field}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let end = rest.find(['"', '\\'])?;
    rest.get(..end).filter(|name| !name.is_empty())
}
