//! What a measured run says about the model: counts from shapes, times, their ceilings, and reports for people and
//! programs. It stands on floor 4 beside the session, which it does not know: a run comes as data, from this machine
//! or from a file. It measures nothing, reads no file and knows no device beyond its ceilings.

mod advice;
pub mod count;


pub mod modules;

pub mod run;
pub mod summary;

pub mod words;
