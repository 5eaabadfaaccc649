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
        // Says of each other argument, a name, how long its secret is, how its file may be used, and a sum of what it says.
        "secrets" => {
            let sum = |bytes: &[u8]| bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            for name in &args[1..] {
                let path = format!("{}/{name}", std::env::var("LANTERN_SECRETS_DIR").unwrap());
                if let Ok(bytes) = std::fs::read(&path) {
                    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
                    println!("file {name} {} {:o} {:x}", bytes.len(), mode & 0o7777, sum(&bytes));
                }
                if let Ok(value) = std::env::var(name) {
                    println!("env {name} {} {:x}", value.len(), sum(value.as_bytes()));
                }
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
        // Says each of the other arguments to the box's way out, and the first line of each answer.
        "ask" => {
            for text in &args[1..] {
                let text = text.replace("\\r", "\r").replace("\\n", "\n");
                let mut stream = std::net::TcpStream::connect("127.0.0.1:3128").unwrap();
                stream.write_all(text.as_bytes()).unwrap();
                let mut answer = Vec::new();
                drop(stream.read_to_end(&mut answer));
                let answer = String::from_utf8_lossy(&answer);
                let reason = answer.lines().find(|line| line.starts_with("x-lantern-reason"));
                println!("{} {}", answer.lines().next().unwrap_or("nothing"), reason.unwrap_or_default());
            }
        }
        // Asks us: for each three arguments a path, a token ("-" for its own, "" for none) and a body. Says status and answer.
        "call" => {
            for asked in args[1..].chunks(3) {
                println!("{}", asked_of_us(&asked[0], &asked[1], &asked[2]));
            }
        }
        // The same at the same time.
        "at_once" => {
            let asked: Vec<_> = args[1..].chunks(3).map(<[String]>::to_vec).collect();
            let asking = asked.into_iter().map(|asked| std::thread::spawn(move || asked_of_us(&asked[0], &asked[1], &asked[2])));
            for answer in asking.collect::<Vec<_>>() {
                println!("{}", answer.join().unwrap());
            }
        }
        // Announces a body of so many bytes on so many connections, and sends none of it. Says what is answered to so many of them, what is
        // answered to a small body meanwhile, and to a whole one once the others were given up.
        "hold" => {
            let number = |n: usize| args[n].parse::<usize>().unwrap();
            let (connections, bytes, answered) = (number(1), number(2), number(3));
            let head = format!("POST {} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n", args[4]);
            let (said, answers) = std::sync::mpsc::channel();
            let open: Vec<_> = (0..connections)
                .map(|_| {
                    let mut stream = std::net::TcpStream::connect("127.0.0.1:3128").unwrap();
                    stream.write_all(head.as_bytes()).unwrap();
                    let (mut reading, said) = (stream.try_clone().unwrap(), said.clone());
                    std::thread::spawn(move || {
                        let mut answer = Vec::new();
                        drop(reading.read_to_end(&mut answer));
                        drop(said.send(String::from_utf8_lossy(&answer).into_owned()));
                    });
                    stream
                })
                .collect();
            for _ in 0..answered {
                let answer = answers.recv().unwrap();
                let after = answer.lines().find(|line| line.starts_with("retry-after")).unwrap_or_default();
                println!("{} {after}", answer.lines().next().unwrap_or("nothing"));
            }
            println!("{}", asked_of_us(&args[4], "-", &args[5]));
            for stream in open {
                drop(stream.shutdown(std::net::Shutdown::Both));
            }
            let whole = "x".repeat(bytes);
            let last = loop {
                let answer = asked_of_us(&args[4], "-", &whole);
                if !answer.contains(" 503 ") {
                    break answer;
                }
            };
            println!("{}", last.split_inclusive(' ').take(2).collect::<String>());
        }
        // Asks the same again until the answer is another: for each three arguments. Says "up" and then the other answers.
        "until" => {
            let asked: Vec<_> = args[1..].chunks(3).collect();
            let first: Vec<_> = asked.iter().map(|asked| asked_of_us(&asked[0], &asked[1], &asked[2])).collect();
            println!("up");
            for (asked, first) in asked.iter().zip(first) {
                let status = |answer: &str| answer.split(' ').nth(1).unwrap_or_default().to_owned();
                let other = loop {
                    let answer = asked_of_us(&asked[0], &asked[1], &asked[2]);
                    if status(&answer) != status(&first) {
                        break answer;
                    }
                };
                println!("{other}");
            }
        }
        // Tries to get out by every way but that one.
        "escape" => {
            for name in ["lo", "eth0"] {
                println!("{name} {}", std::fs::read_to_string("/proc/net/dev").unwrap().contains(name));
            }
            for address in args[1..].iter() {
                let address = address.parse().unwrap();
                let wait = std::time::Duration::from_secs(2);
                println!("tcp {address} {}", std::net::TcpStream::connect_timeout(&address, wait).is_ok());
                let udp = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", address));
                println!("udp {address} {}", udp.is_ok() && !address.ip().is_loopback());
            }
            println!("name {}", std::net::ToSocketAddrs::to_socket_addrs("example.com:80").is_ok());
        }
        _ => std::process::exit(64),
    }
}

fn asked_of_us(path: &str, token: &str, body: &str) -> String {
    let own = std::env::var("OPENAI_API_KEY").unwrap_or_default();
    let token = if token == "-" { own.as_str() } else { token };
    let shown = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let mut stream = std::net::TcpStream::connect("127.0.0.1:3128").unwrap();
    let head = format!("POST {path} HTTP/1.1\r\n{shown}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    format!("{} {}", head.lines().next().unwrap_or("nothing"), body.replace(['\r', '\n'], " "))
}
