//! Thousands of streams over pipes, in this process and in virtual time, with every allocated byte counted.

mod comings_and_goings;
mod crowd;
mod heap;
mod late_admission;
mod slow_readers;
mod storm;
