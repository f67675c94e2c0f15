//! A catalog of 100,000 services: what one more costs, how fast one is found, and what each holds in
//! memory.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use margay_core::address::{InstanceAddresses, VirtualIp};
use margay_core::catalog::{
    Catalog, CatalogConfig, CatalogInput, CatalogLimits, CatalogOutput, FLUSH_AFTER, Generation,
    Identity, Instance, Service, Statement,
};
use margay_core::composition::{Port, Transport};
use margay_core::host::OriginEpoch;
use margay_core::id::{InstanceId, Version};
use margay_core::moment::Moment;
use margay_core::signature::PrivateKey;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

const SERVICES: u32 = 100_000;
const HOSTS: u8 = 10;

/// The system's allocator, which counts what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting has no other effect.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key(host: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[host + 1; 32])
}

fn catalog(host: u8) -> Catalog {
    let config = CatalogConfig {
        key: key(host),
        epoch: OriginEpoch(1),
        limits: CatalogLimits::default(),
    };
    let mut catalog = Catalog::new(config, 1, Moment::ORIGIN);
    for other in 0..=HOSTS {
        let other = key(other).public();
        catalog.handle_input(CatalogInput::Certified(other), Moment::ORIGIN);
        catalog.handle_input(CatalogInput::Up(other), Moment::ORIGIN);
    }
    while catalog.poll_output().is_some() {}
    catalog
}

/// One service with one instance.
fn instance(host: u8, number: u32, flows: u32) -> Instance {
    let vip = |base: u32| VirtualIp {
        v4: Ipv4Addr::from_bits(base + number),
        v6: Ipv6Addr::from_bits(u128::from(base) << 96 | u128::from(number)),
    };
    let http = Port {
        port: 80,
        protocol: Transport::Tcp,
    };
    Instance {
        identity: Identity {
            born_at: key(host).public(),
            number: InstanceId(number.into()),
        },
        service: Service {
            composition: "shop".parse().expect("a name"),
            automaton: format!("service-{number}").parse().expect("a name"),
        },
        version: Version(1),
        addresses: InstanceAddresses {
            called: vip(0x6440_0000),
            caller: vip(0x6460_0000),
        },
        ports: BTreeMap::from([("http".to_owned(), http)]),
        takes_flows: true,
        weight: 100,
        flows,
        processor: 0,
        ordinal: NonZeroU32::MIN,
        generation: Generation(1),
    }
}

/// What the host publishes that says `instances`.
fn published(catalog: &mut Catalog, instances: impl Iterator<Item = Instance>) -> Vec<Vec<u8>> {
    let mut now = Moment::ORIGIN;
    for instance in instances {
        catalog.handle_input(CatalogInput::State(Statement::Instance(instance)), now);
    }
    let mut messages = Vec::new();
    loop {
        now = now + FLUSH_AFTER;
        catalog.handle_timeout(now);
        let outputs: Vec<CatalogOutput> = iter::from_fn(|| catalog.poll_output()).collect();
        let before = messages.len();
        messages.extend(outputs.into_iter().filter_map(|output| match output {
            CatalogOutput::Publish { bytes } => Some(bytes),
            _ => None,
        }));
        if messages.len() == before {
            return messages;
        }
    }
}

fn hear(catalog: &mut Catalog, bytes: Vec<u8>) {
    catalog.handle_input(CatalogInput::Gossip { bytes }, Moment::ORIGIN);
    while catalog.poll_output().is_some() {}
}

/// A catalog that heard of all services from ten hosts, and those hosts' own.
fn full() -> (Catalog, Vec<Catalog>) {
    let mut reader = catalog(0);
    let mut origins = Vec::new();
    let before = HELD.load(Ordering::Relaxed);
    let mut held = 0;
    for host in 1..=HOSTS {
        let mut origin = catalog(host);
        let numbers =
            (1..=SERVICES).filter(|number| number % u32::from(HOSTS) + 1 == u32::from(host));
        let messages = published(&mut origin, numbers.map(|it| instance(host, it, 0)));
        let before = HELD.load(Ordering::Relaxed);
        let mut freed = 0;
        for bytes in messages {
            freed += bytes.capacity();
            hear(&mut reader, bytes);
        }
        held += HELD.load(Ordering::Relaxed) + freed - before;
        origins.push(origin);
    }
    println!(
        "memory: {} bytes a service ({} MB in all; estimated by the catalog: {} bytes a service); \
         with ten origins' own: {} MB",
        held / SERVICES as usize,
        held >> 20,
        reader.bytes() / SERVICES as usize,
        (HELD.load(Ordering::Relaxed) - before) >> 20,
    );
    (reader, origins)
}

fn measure(criterion: &mut Criterion) {
    let (mut reader, mut origins) = full();
    let mut number = 0;
    let mut next = || {
        number = (number + 7_919) % SERVICES;
        number + 1
    };
    let names: Vec<_> = (1..=SERVICES)
        .map(|it| instance(1, it, 0).service.automaton)
        .collect();
    criterion.bench_function("look up a service by name", |bencher| {
        bencher.iter(|| {
            let found = reader.instances_of(&names[next() as usize - 1]);
            assert_eq!(black_box(found).len(), 1);
        });
    });
    criterion.bench_function("look up an instance by address", |bencher| {
        bencher.iter(|| {
            let addr = IpAddr::V4(Ipv4Addr::from_bits(0x6440_0000 + next()));
            assert_eq!(black_box(reader.instances_at(addr)).len(), 1);
        });
    });
    let mut added = SERVICES;
    let word = |origins: &mut [Catalog], number: u32, load: u32| {
        let host = u8::try_from(number % u32::from(HOSTS)).expect("below ten") + 1;
        let origin = &mut origins[usize::from(host) - 1];
        let mut messages = published(origin, iter::once(instance(host, number, load)));
        messages.pop().expect("a message")
    };
    criterion.bench_function("hear of one more service", |bencher| {
        let setup = || {
            added += 1;
            word(&mut origins, added, 0)
        };
        bencher.iter_batched(
            setup,
            |bytes| hear(&mut reader, bytes),
            BatchSize::SmallInput,
        );
    });
    let mut load = 0;
    criterion.bench_function("hear a new word about a service", |bencher| {
        let setup = || {
            load += 1;
            word(&mut origins, next(), load)
        };
        bencher.iter_batched(
            setup,
            |bytes| hear(&mut reader, bytes),
            BatchSize::SmallInput,
        );
    });
    let again = word(&mut origins, 1, 1_000_000);
    hear(&mut reader, again.clone());
    criterion.bench_function("hear what is known already", |bencher| {
        let setup = || again.clone();
        bencher.iter_batched(
            setup,
            |bytes| hear(&mut reader, bytes),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, measure);
criterion_main!(benches);
