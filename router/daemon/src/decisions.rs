//! Carries out what core decides for the kernel to repeat.

use margay_core::port::Output;
use margay_datapath::datapath::Datapath;

/// Carries out an output about aggregates, admissions and their epochs. What the kernel does not take
/// is decided flow by flow.
pub fn carry_out(datapath: &mut Datapath, output: Output) {
    match output {
        Output::OpenAggregate(aggregate) => {
            if let Err(error) = datapath.open_aggregate(&aggregate) {
                tracing::debug!(?aggregate, %error, "flows are decided one by one");
            }
        }
        Output::CloseAggregates(keys) => {
            if let Err(error) = datapath.close_aggregates(&keys) {
                tracing::error!(%error, "aggregates not closed");
            }
        }
        Output::OpenAdmission(admission) => {
            if let Err(error) = datapath.open_admission(&admission) {
                tracing::debug!(?admission, %error, "flows are asked for one by one");
            }
        }
        Output::CloseAdmissions(keys) => {
            if let Err(error) = datapath.close_admissions(&keys) {
                tracing::error!(%error, "admissions not closed");
            }
        }
        Output::SetEpoch { cell, epoch } => datapath.set_epoch(cell, epoch),
        other => tracing::error!(?other, "this is no decision for the kernel"),
    }
}
