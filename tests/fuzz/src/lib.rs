//! What bytes from outside may not do, asked by libFuzzer and, with the seeds it starts from, by plain tests.

mod allocated;
pub mod request;
