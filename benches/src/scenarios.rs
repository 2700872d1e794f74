//! What is asked for, and how.

use crate::peers::Job;

/// A piece of work whose cost is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// GET of 1 KiB over 64 connections.
    Get,
    /// POST of 16 KiB over 64 connections.
    Post,
    /// GET of 1 KiB, a connection for each.
    Close,
    /// GET of 10 MiB over 8 connections.
    Big,
    /// GET of 1 KiB, 2,000 a second: an open loop, for the times.
    Pace,
    /// GET of 1 KiB, each copied to a second backend.
    Mirror,
    /// The same, and the answers compared.
    Compare,
    /// Bytes for each of many connections that have asked once and are kept.
    Idle,
    /// Whether copies to a target that never answers cost the users time.
    ShadowHang,
}

impl Scenario {
    pub const ALL: [Scenario; 9] = [
        Scenario::Get,
        Scenario::Post,
        Scenario::Close,
        Scenario::Big,
        Scenario::Pace,
        Scenario::Mirror,
        Scenario::Compare,
        Scenario::Idle,
        Scenario::ShadowHang,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Scenario::Get => "get",
            Scenario::Post => "post",
            Scenario::Close => "close",
            Scenario::Big => "big",
            Scenario::Pace => "pace",
            Scenario::Mirror => "mirror",
            Scenario::Compare => "compare",
            Scenario::Idle => "idle",
            Scenario::ShadowHang => "shadow-hang",
        }
    }

    /// What the proxy must be told to do. One that has been started for a job serves all its scenarios.
    pub fn job(self) -> Job {
        match self {
            Scenario::Get | Scenario::Post | Scenario::Close | Scenario::Big | Scenario::Pace | Scenario::Idle => {
                Job::Split
            }
            Scenario::Mirror => Job::Mirror,
            Scenario::Compare => Job::Compare,
            Scenario::ShadowHang => Job::Hanging,
        }
    }

    /// The job of nginx that is the measure: a comparison is held against a mirror that compares nothing.
    pub fn measured_against(self) -> Scenario {
        if self == Scenario::Compare { Scenario::Mirror } else { self }
    }

    /// How the load generator is called.
    pub fn load(self) -> &'static [&'static str] {
        match self {
            Scenario::Get | Scenario::Mirror | Scenario::Compare | Scenario::Idle => &["--connections", "64"],
            Scenario::Post => &["--connections", "64", "--body", "16384"],
            Scenario::Close => &["--connections", "32", "--close"],
            Scenario::Big => &["--connections", "8", "--path", "/big"],
            Scenario::Pace => &["--connections", "64", "--rate", "2000"],
            Scenario::ShadowHang => &["--connections", "32", "--rate", "1000"],
        }
    }
}
