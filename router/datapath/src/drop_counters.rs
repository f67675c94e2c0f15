//! What the kernel dropped, by reason.

use aya::maps::{MapData, MapError, PerCpuArray};
use margay_core::drop_reason::DropReason;

/// `DROP_REASONS_MAX` of `bpf/drop_reason.h`: reasons from here on are counted in core.
pub(crate) const KERNEL_REASONS_MAX: u32 = 32;

/// The reasons for which the kernel itself drops, in the order of their numbers.
pub(crate) fn kernel_reasons() -> impl Iterator<Item = DropReason> {
    DropReason::ALL
        .iter()
        .copied()
        .filter(|reason| (*reason as u32) < KERNEL_REASONS_MAX)
}

/// Sums each reason's counter over all CPUs.
pub(crate) fn read(drops: &PerCpuArray<MapData, u64>) -> Result<Vec<(DropReason, u64)>, MapError> {
    kernel_reasons()
        .map(|reason| {
            let per_cpu = drops.get(&(reason as u32), 0)?;
            Ok((reason, per_cpu.iter().sum()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../bpf/drop_reason.h");

    /// `DROP_FORGED_SOURCE = 0,` as `("forged_source", 0)`.
    fn reasons_of_header() -> Vec<(String, u32)> {
        HEADER
            .lines()
            .filter_map(|line| line.trim().strip_prefix("DROP_")?.strip_suffix(','))
            .map(|line| {
                let (name, number) = line.split_once(" = ").unwrap();
                (name.to_lowercase(), number.parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn drop_reasons_are_those_of_the_kernel() {
        let mut ours: Vec<(String, u32)> = kernel_reasons()
            .map(|reason| (reason.name().to_owned(), reason as u32))
            .collect();
        ours.push(("reasons_max".to_owned(), KERNEL_REASONS_MAX));
        assert_eq!(reasons_of_header(), ours);
    }
}
