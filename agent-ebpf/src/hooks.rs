//! One hook a file. Each says where it attaches, the oldest kernel, and what stands in when it is absent.

mod cgroup_move;
mod connect_tcp;
mod connect_unix;
mod establish_tcp;
mod getsockname_unix;
mod list_tasks;
mod process_exec;
mod process_exit;
mod process_fork;
