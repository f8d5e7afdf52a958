//! What the kernel knows of this process, under the names that every Prometheus client uses.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Ticks a second of `/proc/PID/stat`: the same on every architecture of Linux that has a tier at rustc.
const TICKS: f64 = 100.0;

/// Reads `/proc/self` at each scrape. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let help = "User and system CPU time";
            let counter = ConstCounter::new(seconds);
            let kind = MetricType::Counter;
            counter.encode(encoder.encode_descriptor(
                "process_cpu",
                help,
                Some(&Unit::Seconds),
                kind,
            )?)?;
        }
        let gauges = [
            (
                "process_resident_memory",
                "Resident memory",
                Some(Unit::Bytes),
                status("VmRSS:"),
            ),
            (
                "process_virtual_memory",
                "Virtual memory",
                Some(Unit::Bytes),
                status("VmSize:"),
            ),
            ("process_threads", "Threads", None, status("Threads:")),
            (
                "process_open_fds",
                "Open descriptors",
                None,
                open_descriptors(),
            ),
            (
                "process_max_fds",
                "Most descriptors",
                None,
                most_descriptors().map(as_float),
            ),
            (
                "process_start_time",
                "Start, in unix time",
                Some(Unit::Seconds),
                start_time(),
            ),
        ];
        for (name, help, unit, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(
                name,
                help,
                unit.as_ref(),
                MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}

/// A field of `/proc/self/stat` behind the name, counted from the state, which is 3.
fn stat(field: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold blanks and brackets.
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(field - 3)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat(14)? + stat(15)?) / TICKS)
}

fn start_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let boot = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + stat(22)? / TICKS)
}

/// A number of `/proc/self/status`, in bytes where it is in kB.
fn status(key: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?.trim();
    match value.strip_suffix(" kB") {
        Some(kibibytes) => Some(kibibytes.parse::<f64>().ok()? * 1024.0),
        None => value.parse().ok(),
    }
}

/// Descriptors that this process may have open, its soft limit; `None` where there is none.
pub fn most_descriptors() -> Option<u64> {
    most_of(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn most_of(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_descriptors() -> Option<f64> {
    Some(as_float(fs::read_dir("/proc/self/fd").ok()?.count() as u64))
}

#[allow(clippy::cast_precision_loss, reason = "a number of descriptors")]
fn as_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_tells_everything() {
        for value in [
            cpu_seconds(),
            start_time(),
            status("VmRSS:"),
            status("Threads:"),
            open_descriptors(),
            most_descriptors().map(as_float),
        ] {
            assert!(value.is_some_and(|value| value >= 0.0), "{value:?}");
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let age = now.unwrap().as_secs_f64() - start_time().unwrap();
        assert!((-2.0..86400.0).contains(&age), "{age}");
    }

    #[test]
    fn limits_of_open_files_are_read() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(most_of(text), Some(1024));
        assert_eq!(most_of("Max open files  unlimited unlimited files"), None);
    }
}
