//! Does what its first argument says, inside of a box.

use std::io::{Read, Write};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let word = args.first().map(String::as_str).unwrap_or_default();
    match word {
        "exit" => std::process::exit(args[1].parse().unwrap()),
        "env" => {
            for (name, value) in std::env::vars() {
                println!("{name}={value}");
            }
        }
        "echo" => {
            let mut input = String::new();
            std::io::stdin().read_to_string(&mut input).unwrap();
            println!("{input}");
            eprintln!("\u{1b}]0;evil\u{7}{input}");
        }
        "wait" => {
            println!("up");
            std::io::stdout().flush().unwrap();
            loop {
                std::thread::park();
            }
        }
        "flood" => {
            let line = "x".repeat(1_000);
            for _ in 0..40_000 {
                println!("{line}");
            }
        }
        "look" => {
            for path in ["/etc/shadow", "/proc/1/environ", "/sys/class", "/data", "/root"] {
                println!("{path} {}", std::fs::read(path).is_ok());
            }
            println!("write {}", std::fs::write("/odd2", "x").is_ok());
            println!("net {}", std::net::TcpStream::connect("127.0.0.1:80").is_ok());
        }
        _ => std::process::exit(64),
    }
}
