//! Which system calls a box may make: one list, for the OCI runtimes as JSON and for bubblewrap as a BPF program.
//!
//! A list of what is allowed, so that a call nobody thought of, or one in another numbering of the same kernel, is
//! refused. Refused calls answer `ENOSYS`, which programs take as "an older kernel" and find another way.

use std::collections::BTreeMap;

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use serde_json::{Value, json};

/// What every refused call answers.
const REFUSED: i32 = libc::ENOSYS;
/// The flags of `clone` that make namespaces.
const NEW_NAMESPACES: u64 = 0x7E02_0000;
/// `AF_UNIX`, `AF_INET`, `AF_INET6`: no packets, no kernel's own sockets, no virtual machine's.
const FAMILIES: [u64; 3] = [1, 2, 10];
/// `personality` as it is, and asked for.
const PERSONALITIES: [u64; 2] = [0, 0xFFFF_FFFF];

macro_rules! calls {
    ($($name:ident)+) => {
        /// Name, with `SYS_` before it, and number.
        const CALLS: &[(&str, i64)] = &[$((stringify!($name), libc::$name)),+];
    };
}

calls! {
    SYS_read SYS_write SYS_close SYS_fstat SYS_lseek SYS_mmap SYS_mprotect SYS_munmap SYS_brk SYS_rt_sigaction
    SYS_rt_sigprocmask SYS_rt_sigreturn SYS_ioctl SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_sched_yield
    SYS_mremap SYS_msync SYS_mincore SYS_madvise SYS_dup SYS_nanosleep SYS_getitimer SYS_setitimer SYS_getpid
    SYS_sendfile SYS_connect SYS_accept SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_shutdown SYS_bind
    SYS_listen SYS_getsockname SYS_getpeername SYS_socketpair SYS_setsockopt SYS_getsockopt SYS_execve SYS_exit
    SYS_wait4 SYS_kill SYS_uname SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_truncate SYS_ftruncate SYS_getcwd
    SYS_chdir SYS_fchdir SYS_fchmod SYS_fchown SYS_umask SYS_gettimeofday SYS_getrlimit SYS_getrusage SYS_sysinfo
    SYS_times SYS_getuid SYS_getgid SYS_setuid SYS_setgid SYS_geteuid SYS_getegid SYS_setpgid SYS_getppid SYS_setsid
    SYS_setreuid SYS_setregid SYS_getgroups SYS_setgroups SYS_setresuid SYS_getresuid SYS_setresgid SYS_getresgid
    SYS_getpgid SYS_setfsuid SYS_setfsgid SYS_getsid SYS_capget SYS_capset SYS_rt_sigpending SYS_rt_sigtimedwait
    SYS_rt_sigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack SYS_statfs SYS_fstatfs SYS_getpriority SYS_setpriority
    SYS_sched_setparam SYS_sched_getparam SYS_sched_setscheduler SYS_sched_getscheduler SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_mlock SYS_munlock SYS_mlockall SYS_munlockall SYS_prctl
    SYS_setrlimit SYS_sync SYS_gettid SYS_readahead SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr
    SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr
    SYS_fremovexattr SYS_tkill SYS_futex SYS_sched_setaffinity SYS_sched_getaffinity SYS_getdents64
    SYS_set_tid_address SYS_restart_syscall SYS_fadvise64 SYS_timer_create SYS_timer_settime SYS_timer_gettime
    SYS_timer_getoverrun SYS_timer_delete SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_exit_group
    SYS_tgkill SYS_waitid SYS_ioprio_set SYS_ioprio_get SYS_inotify_add_watch SYS_inotify_rm_watch SYS_openat
    SYS_mkdirat SYS_mknodat SYS_fchownat SYS_newfstatat SYS_unlinkat SYS_linkat SYS_symlinkat SYS_readlinkat
    SYS_fchmodat SYS_faccessat SYS_pselect6 SYS_ppoll SYS_set_robust_list SYS_get_robust_list SYS_splice SYS_tee
    SYS_sync_file_range SYS_utimensat SYS_epoll_pwait SYS_timerfd_create SYS_fallocate SYS_timerfd_settime
    SYS_timerfd_gettime SYS_accept4 SYS_signalfd4 SYS_eventfd2 SYS_epoll_create1 SYS_dup3 SYS_pipe2 SYS_inotify_init1
    SYS_preadv SYS_pwritev SYS_rt_tgsigqueueinfo SYS_recvmmsg SYS_prlimit64 SYS_syncfs SYS_sendmmsg SYS_getcpu
    SYS_sched_setattr SYS_sched_getattr SYS_renameat2 SYS_seccomp SYS_getrandom SYS_memfd_create SYS_execveat
    SYS_membarrier SYS_mlock2 SYS_copy_file_range SYS_preadv2 SYS_pwritev2 SYS_statx SYS_rseq SYS_pidfd_open
    SYS_pidfd_send_signal SYS_close_range SYS_openat2 SYS_faccessat2 SYS_epoll_pwait2 SYS_epoll_ctl
}

#[cfg(target_arch = "x86_64")]
mod native {
    calls! {
        SYS_open SYS_stat SYS_lstat SYS_poll SYS_access SYS_pipe SYS_select SYS_dup2 SYS_pause SYS_alarm SYS_fork
        SYS_vfork SYS_getdents SYS_rename SYS_mkdir SYS_rmdir SYS_creat SYS_link SYS_unlink SYS_symlink SYS_readlink
        SYS_chmod SYS_chown SYS_lchown SYS_getpgrp SYS_utime SYS_mknod SYS_arch_prctl SYS_time SYS_epoll_create
        SYS_epoll_wait SYS_utimes SYS_inotify_init SYS_futimesat SYS_signalfd SYS_eventfd SYS_renameat
    }
    pub(super) const MORE: &[(&str, i64)] = CALLS;
    pub(super) const OCI: &[&str] = &["SCMP_ARCH_X86_64"];
    pub(super) const ARCH: seccompiler::TargetArch = seccompiler::TargetArch::x86_64;
}

#[cfg(target_arch = "aarch64")]
mod native {
    pub(super) const MORE: &[(&str, i64)] = &[];
    pub(super) const OCI: &[&str] = &["SCMP_ARCH_AARCH64"];
    pub(super) const ARCH: seccompiler::TargetArch = seccompiler::TargetArch::aarch64;
}

/// Allowed when an argument is one of these, or has none of these bits.
enum Only {
    Values(&'static [u64]),
    NoneOf(u64),
}

const CONDITIONAL: &[(&str, i64, Only)] = &[
    ("SYS_clone", libc::SYS_clone, Only::NoneOf(NEW_NAMESPACES)),
    ("SYS_socket", libc::SYS_socket, Only::Values(&FAMILIES)),
    ("SYS_personality", libc::SYS_personality, Only::Values(&PERSONALITIES)),
];

fn plain() -> impl Iterator<Item = (&'static str, i64)> {
    CALLS.iter().chain(native::MORE).copied()
}

fn name(constant: &str) -> &str {
    constant.trim_start_matches("SYS_")
}

/// As an OCI runtime reads it.
pub fn oci() -> Value {
    let names: Vec<&str> = plain().map(|(constant, _)| name(constant)).collect();
    let mut rules = vec![json!({ "names": names, "action": "SCMP_ACT_ALLOW" })];
    for (constant, _, only) in CONDITIONAL {
        let rule =
            |arg: Value| json!({ "names": [name(constant)], "action": "SCMP_ACT_ALLOW", "args": [arg] });
        match only {
            Only::Values(values) => {
                rules.extend(
                    values
                        .iter()
                        .map(|value| rule(json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }))),
                );
            }
            Only::NoneOf(bits) => rules
                .push(rule(json!({ "index": 0, "value": bits, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }))),
        }
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": REFUSED,
        "architectures": native::OCI,
        "syscalls": rules,
    })
}

/// As the kernel reads it: `struct sock_filter` after `struct sock_filter`. `None` when the list cannot be compiled.
pub fn bpf() -> Option<Vec<u8>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        plain().map(|(_, number)| (number, Vec::new())).collect();
    for (_, number, only) in CONDITIONAL {
        let rule = |op: SeccompCmpOp, value: u64| {
            let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, op, value).ok()?;
            SeccompRule::new(vec![condition]).ok()
        };
        let those: Option<Vec<SeccompRule>> = match only {
            Only::Values(values) => values.iter().map(|value| rule(SeccompCmpOp::Eq, *value)).collect(),
            Only::NoneOf(bits) => rule(SeccompCmpOp::MaskedEq(*bits), 0).map(|rule| vec![rule]),
        };
        rules.insert(*number, those?);
    }
    let refuse = SeccompAction::Errno(REFUSED.unsigned_abs());
    let arch: TargetArch = native::ARCH;
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch).ok()?;
    let program: seccompiler::BpfProgram = filter.try_into().ok()?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for step in program {
        bytes.extend_from_slice(&step.code.to_ne_bytes());
        bytes.extend_from_slice(&[step.jt, step.jf]);
        bytes.extend_from_slice(&step.k.to_ne_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_around_a_box_is_on_no_list() {
        let text = oci().to_string();
        for call in [
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "io_uring_setup",
            "init_module",
            "finit_module",
            "kexec_load",
            "reboot",
            "swapon",
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "setns",
            "unshare",
            "clone3",
            "open_by_handle_at",
            "name_to_handle_at",
            "move_mount",
            "open_tree",
            "fsopen",
            "mount_setattr",
            "quotactl",
            "acct",
            "syslog",
            "iopl",
            "ioperm",
            "modify_ldt",
            "vmsplice",
            "kcmp",
            "lookup_dcookie",
            "sethostname",
            "setdomainname",
            "fanotify_init",
            "landlock_restrict_self",
            "vhangup",
        ] {
            assert!(!text.contains(&format!("\"{call}\"")), "{call}");
        }
        for call in ["read", "openat", "clone", "socket", "execve"] {
            assert!(text.contains(&format!("\"{call}\"")), "{call}");
        }
    }

    #[test]
    fn the_program_is_one_that_the_kernel_takes() {
        let bytes = bpf().unwrap();
        assert_eq!(bytes.len() % 8, 0);
        assert!(bytes.len() / 8 < 4_096, "the kernel's limit of instructions");
        assert_eq!(bpf().unwrap(), bytes, "the same each time");
    }
}
