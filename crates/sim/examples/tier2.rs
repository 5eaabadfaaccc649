//! Temporary.
fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let (from, n) = (args.next().unwrap(), args.next().unwrap());
    let mut c = [0; 3];
    for seed in from..from + n {
        let r = lantern_sim::system::run(seed);
        for i in 0..3 {
            c[i] += r.counts[i];
        }
        if let Some(v) = r.violation {
            let tail: Vec<_> =
                r.trace.iter().rev().take(if n == 1 { 200 } else { 0 }).rev().cloned().collect();
            println!("seed {seed}: {v:?}\n{}", tail.join("\n"));
        }
    }
    println!("{c:?}");
}
