//! The journal's schema: a number in the journal, and a step from each to the next.

use crate::journal::membership;
use crate::journal::tables::{DRAINED, META, NETWORK_KEY, PEERS, SERVICE_VIPS};
use anyhow::{Context, Result, bail};
use redb::{ReadableTable, WriteTransaction};

/// The schema that this version writes.
pub const SCHEMA: u32 = 3;

/// Under which key the journal says its schema; the first one did not say it.
const KEY: &str = "schema";

/// What makes each schema the next one, from the first on.
const STEPS: [fn(&WriteTransaction) -> Result<()>; SCHEMA as usize - 1] =
    [remember_operators_wishes, meet_other_hosts];

/// Brings a journal of an older version up to date, step by step, all in `transaction` or not at all.
/// One of a newer version is refused: what this one does not know, it would lose.
pub fn bring_up_to_date(transaction: &WriteTransaction) -> Result<()> {
    let found = found(transaction)?;
    if found > SCHEMA {
        bail!(
            "it was written by a newer version (schema {found}, this one knows {SCHEMA}); start that \
             version again, or one after it"
        );
    }
    // Nothing to write: a full disk keeps no daemon from starting.
    if found == SCHEMA {
        return Ok(());
    }
    let taken = (found as usize).saturating_sub(1);
    for step in &STEPS[taken..] {
        step(transaction)?;
    }
    if (1..SCHEMA).contains(&found) {
        tracing::info!(
            from = found,
            to = SCHEMA,
            "the journal was brought up to date"
        );
    }
    let mut meta = transaction.open_table(META)?;
    meta.insert(KEY, SCHEMA.to_be_bytes().as_slice())?;
    Ok(())
}

/// The schema of what is there; 0 for a journal that is being made.
fn found(transaction: &WriteTransaction) -> Result<u32> {
    let meta = transaction.open_table(META)?;
    if let Some(schema) = meta.get(KEY)? {
        let bytes = schema.value().try_into();
        return Ok(u32::from_be_bytes(
            bytes.context("its schema is not 4 bytes")?,
        ));
    }
    Ok(u32::from(meta.get(NETWORK_KEY)?.is_some()))
}

/// From 1 to 2: instances that are drained, and virtual IPs of services.
fn remember_operators_wishes(transaction: &WriteTransaction) -> Result<()> {
    transaction.open_table(DRAINED)?;
    transaction.open_table(SERVICE_VIPS)?;
    Ok(())
}

/// From 2 to 3: other hosts.
fn meet_other_hosts(transaction: &WriteTransaction) -> Result<()> {
    transaction.open_table(PEERS)?;
    membership::make(transaction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use redb::{Database, ReadableDatabase};
    use std::path::Path;

    /// Changes what is in a journal, behind its back.
    fn change(path: &Path, change: impl FnOnce(&WriteTransaction)) {
        let database = Database::open(path).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
    }

    fn schema_of(path: &Path) -> Vec<u8> {
        let database = Database::open(path).unwrap();
        let transaction = database.begin_read().unwrap();
        let meta = transaction.open_table(META).unwrap();
        meta.get(KEY).unwrap().unwrap().value().to_vec()
    }

    #[test]
    fn journal_of_the_first_schema_is_brought_up_to_date_and_keeps_what_it_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (journal, before) = Journal::open(&path).unwrap();
        drop(journal);
        change(&path, |transaction| {
            transaction.delete_table(DRAINED).unwrap();
            transaction.delete_table(SERVICE_VIPS).unwrap();
            transaction.open_table(META).unwrap().remove(KEY).unwrap();
        });

        let (journal, after) = Journal::open(&path).unwrap();

        assert_eq!(after.network_key, before.network_key);
        assert_eq!(after.drained, []);
        drop(journal);
        assert_eq!(schema_of(&path), SCHEMA.to_be_bytes());
    }

    #[test]
    fn journal_of_a_newer_version_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        drop(Journal::open(&path).unwrap());
        let newer = (SCHEMA + 1).to_be_bytes();
        change(&path, |transaction| {
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert(KEY, newer.as_slice()).unwrap();
        });

        let error = format!("{:#}", Journal::open(&path).unwrap_err());

        assert!(error.contains("newer version"), "{error}");
        assert_eq!(schema_of(&path), newer);
    }
}
