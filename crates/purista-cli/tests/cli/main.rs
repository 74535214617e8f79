//! The command line against real brokers.

mod bad_input;
mod doctor;
mod every_adapter;
mod pages;
mod program;
mod services;
mod tail;
