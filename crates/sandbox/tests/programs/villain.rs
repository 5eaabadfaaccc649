//! What the tests run in boxes: it tries what its first argument says, and tells what came of it. Built by the tests
//! themselves, static, with nothing but the standard library.

use std::ffi::{c_int, c_long};
use std::fs;
use std::io::{Read, Write};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn fork() -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
}

extern "C" fn seven(_: c_int) {
    unsafe { _exit(7) }
}

fn tell(what: c_long) {
    if what < 0 {
        println!("refused: {}", std::io::Error::last_os_error());
    } else {
        println!("done: {what}");
    }
}

fn told<T: std::fmt::Debug>(what: std::io::Result<T>) {
    match what {
        Ok(value) => println!("done: {value:?}"),
        Err(error) => println!("refused: {error}"),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let arg = |n: usize| args.get(n).cloned().unwrap_or_default();
    let path = arg(2) + "\0";
    let at = path.as_ptr();
    unsafe {
        match arg(1).as_str() {
            "hello" => {
                let mut input = String::new();
                std::io::stdin().read_to_string(&mut input).unwrap();
                println!("hello {input}");
                eprintln!("to stderr");
            }
            "exit" => std::process::exit(arg(2).parse().unwrap()),
            "abort" => std::process::abort(),
            "wait" => {
                println!("up");
                loop {
                    std::thread::park();
                }
            }
            "term" => {
                signal(15, seven as extern "C" fn(c_int) as usize);
                println!("up");
                loop {
                    std::thread::park();
                }
            }
            "read" => told(fs::read(arg(2)).map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned())),
            "write" => told(fs::OpenOptions::new().write(true).open(arg(2)).and_then(|mut file| file.write_all(b"1"))),
            "create" => told(fs::write(arg(2), "x")),
            "list" => told(fs::read_dir(arg(2)).map(|dir| dir.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>())),
            "env" => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
            "fds" => {
                for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
                    let target = fs::read_link(entry.path()).unwrap_or_default();
                    println!("fd {} {}", entry.file_name().to_string_lossy(), target.display());
                }
            }
            "processes" => {
                let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
                    entry.file_name().to_string_lossy().parse::<u32>().ok()
                });
                println!("processes: {}", pids.count());
            }
            "mount" => tell(syscall(165, c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0_u64, 0_u64)),
            "remount" => tell(syscall(165, c"none".as_ptr(), c"/".as_ptr(), 0_u64, 4096_u64 | 32, 0_u64)),
            "umount" => tell(syscall(166, c"/proc".as_ptr(), 2_u64)),
            "chroot" => tell(syscall(161, c"/tmp".as_ptr())),
            "pivot" => tell(syscall(155, c"/tmp".as_ptr(), c"/tmp".as_ptr())),
            "ptrace" => tell(syscall(101, 0_u64, 0_u64, 0_u64, 0_u64)),
            "peek" => tell(syscall(310, 1_u64, 0_u64, 0_u64, 0_u64, 0_u64, 0_u64)),
            "unshare" => tell(syscall(272, 0x1000_0000_u64)),
            "setns" => tell(syscall(308, 0_u64, 0_u64)),
            "clone" => tell(syscall(56, 0x1000_0000_u64 | 17, 0_u64, 0_u64, 0_u64, 0_u64)),
            "keyctl" => tell(syscall(250, 0_u64, -3_i64, 0_u64)),
            "add_key" => tell(syscall(248, c"user".as_ptr(), c"a".as_ptr(), c"b".as_ptr(), 1_u64, -3_i64)),
            "bpf" => tell(syscall(321, 5_u64, 0_u64, 0_u64)),
            "perf" => tell(syscall(298, 0_u64, 0_u64, -1_i64, -1_i64, 0_u64)),
            "uring" => tell(syscall(425, 8_u64, [0_u8; 120].as_mut_ptr())),
            "userfault" => tell(syscall(323, 0_u64)),
            "reboot" => tell(syscall(169, 0xfee1_dead_u64, 672_274_793_u64, 0_u64, 0_u64)),
            "settime" => tell(syscall(227, 0_u64, [1_i64, 0].as_ptr())),
            "hostname" => tell(syscall(170, c"evil".as_ptr(), 4_u64)),
            "module" => tell(syscall(175, 0_u64, 0_u64, c"".as_ptr())),
            "handle" => tell(syscall(304, -100_i64, [0_u8; 32].as_ptr(), 0_u64)),
            "device" => tell(syscall(133, c"/tmp/dev".as_ptr(), 0o060_644_u64, 0xfe00_u64)),
            "root" => tell(syscall(105, 0_u64)),
            "x32" => tell(syscall(0x4000_0000 + 165, c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0_u64, 0_u64)),
            "socket" => tell(syscall(41, arg(2).parse::<u64>().unwrap(), arg(3).parse::<u64>().unwrap(), 0_u64)),
            "tcp" => told(std::net::TcpStream::connect(arg(2)).map(|_| ())),
            "abstract" => {
                use std::os::linux::net::SocketAddrExt as _;
                let name = std::os::unix::net::SocketAddr::from_abstract_name(arg(2)).unwrap();
                told(std::os::unix::net::UnixStream::connect_addr(&name).map(|_| ()));
            }
            "setuid-file" => tell(syscall(90, at, 0o4755_u64)),
            "forks" => {
                let mut n = 0;
                let error = loop {
                    match fork() {
                        0 => loop {
                            std::thread::park();
                        },
                        -1 => break std::io::Error::last_os_error(),
                        _ => n += 1,
                    }
                    if n > 5_000 {
                        break std::io::Error::other("nothing");
                    }
                };
                println!("forked {n}, then refused: {error}");
            }
            "zombies" => {
                let mut n = 0;
                while n < 20_000 && fork() > 0 {
                    n += 1;
                }
                if std::process::id() > 2 && n == 0 {
                    _exit(0);
                }
                println!("zombies: {n}");
            }
            "memory" => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 20]);
                    if all.len() > 4_096 {
                        println!("took 4 GiB");
                        break;
                    }
                }
            }
            "disk" => {
                let mut file = fs::File::create("/tmp/big").unwrap();
                let block = vec![1_u8; 1 << 20];
                let mut n = 0;
                while n < 4_096 && file.write_all(&block).is_ok() {
                    n += 1;
                }
                println!("wrote {n} MiB");
            }
            "files" => {
                let mut all = Vec::new();
                while let Ok(file) = fs::File::open("/proc/self/stat") {
                    all.push(file);
                }
                println!("files: {}", all.len());
            }
            "flood" => {
                let line = vec![b'x'; 1 << 16];
                let mut out = std::io::stdout().lock();
                for _ in 0..(arg(2).parse::<u32>().unwrap() * 16) {
                    out.write_all(&line).unwrap();
                }
            }
            "spin" => loop {
                std::hint::spin_loop();
            },
            "kill-all" => {
                kill(-1, 9);
                println!("still here");
            }
            "daemon" => {
                if fork() == 0 {
                    syscall(112);
                    loop {
                        std::thread::park();
                    }
                }
                println!("left one behind");
            }
            other => println!("no such trick: {other}"),
        }
    }
}
