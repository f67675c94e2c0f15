//! The user that an instance runs as.

use super::{ConfinementError, Step};
use margay_core::id::InstanceId;
use nix::unistd::{Gid, Uid};

/// The user and group id of instance 0 where a composition names no user; instance N gets N more.
///
/// Above every range that distributions, systemd (524288 to 1879048191) and containers hand out,
/// and below 2^31, which some programs take for negative.
pub const DEFAULT_USER_BASE: u32 = 1_900_000_000;

/// The first id that is not an instance's any more.
const DEFAULT_USER_END: u32 = 1 << 31;

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

impl User {
    /// Finds the user called `name`, or the one that belongs to `instance` alone.
    pub(crate) fn find(name: Option<&str>, instance: InstanceId) -> Result<User, ConfinementError> {
        let user = match name {
            None => User::of_instance(instance)?,
            Some(name) => User::by_name(name)?,
        };
        if user.uid.is_root() {
            return Err(ConfinementError::User(
                "user 0 owns the host's files; name an unprivileged `user`, or none".into(),
            ));
        }
        Ok(user)
    }

    fn of_instance(instance: InstanceId) -> Result<User, ConfinementError> {
        let id = DEFAULT_USER_BASE
            .checked_add(instance.number_at_birth())
            .filter(|id| *id < DEFAULT_USER_END)
            .ok_or_else(|| {
                ConfinementError::User(format!("no user id is left for instance {instance}"))
            })?;
        Ok(User {
            uid: Uid::from_raw(id),
            gid: Gid::from_raw(id),
        })
    }

    fn by_name(name: &str) -> Result<User, ConfinementError> {
        let found = nix::unistd::User::from_name(name).step(|| format!("look up user `{name}`"))?;
        let user = found.ok_or_else(|| {
            ConfinementError::User(format!(
                "this host has no user `{name}`; create it, or correct `user`"
            ))
        })?;
        Ok(User {
            uid: user.uid,
            gid: user.gid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_has_a_user_of_its_own() {
        let user = User::find(None, InstanceId(7)).unwrap();

        assert_eq!(user.uid.as_raw(), 1_900_000_007);
        assert_eq!(user.gid.as_raw(), 1_900_000_007);
    }

    #[test]
    fn user_follows_from_the_number_on_the_own_host_in_every_network() {
        let elsewhere = InstanceId(0x6440_1000 << 32 | 7);
        let user = |instance| User::find(None, instance).unwrap();
        assert_eq!(user(elsewhere), user(InstanceId(7)));
    }

    #[test]
    fn an_instance_beyond_the_range_is_refused() {
        let first_without = u64::from(DEFAULT_USER_END - DEFAULT_USER_BASE);

        assert!(User::find(None, InstanceId(first_without - 1)).is_ok());
        assert!(User::find(None, InstanceId(first_without)).is_err());
        assert!(User::find(None, InstanceId(u64::MAX)).is_err());
    }

    #[test]
    fn root_and_strangers_are_refused() {
        assert!(User::find(Some("root"), InstanceId(1)).is_err());
        assert!(User::find(Some("no-such-user"), InstanceId(1)).is_err());
        assert!(User::find(Some("nobody"), InstanceId(1)).is_ok());
    }
}
