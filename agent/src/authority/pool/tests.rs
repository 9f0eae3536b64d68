use std::{collections::HashSet, thread};

use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn it_is_filled_up_to_what_is_in_use_and_never_beyond_its_limit() {
    let pool = Arc::new(KeyPool::new(KeyType::EcP256, 200));
    let filling = tokio::spawn(Arc::clone(&pool).fill());
    until(&pool, 64).await;
    pool.expect(100);
    until(&pool, 100).await;
    pool.expect(usize::MAX);
    until(&pool, 200).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!((pool.held(), pool.metrics.made_ahead.get()), (200, 200));
    pool.take(Instant::now()).unwrap();
    until(&pool, 200).await;
    filling.abort();
}

#[test]
fn a_limit_below_the_least_stays_a_limit() {
    let pool = KeyPool::new(KeyType::EcP256, 3);
    pool.expect(1000);
    assert_eq!(pool.store().target, 3);
    pool.expect(0);
    assert_eq!(pool.store().target, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_handed_out_twice_however_many_take_at_once() {
    let pool = Arc::new(KeyPool::new(KeyType::EcP256, 1000));
    pool.expect(1000);
    let filling = tokio::spawn(Arc::clone(&pool).fill());
    until(&pool, 500).await;
    let takers: Vec<_> = (0..4)
        .map(|_| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                (0..300).map(|_| pool.take(Instant::now()).unwrap().public().to_vec()).collect::<Vec<_>>()
            })
        })
        .collect();
    let taken: Vec<_> = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 1200, "each is one of its own");
    let counted = |from| pool.metrics.taken.get_or_create(&[("from", from)]).get();
    assert!(counted("pool") >= 500 && counted("pool") + counted("spot") == 1200);
    filling.abort();
}

#[test]
fn an_empty_pool_makes_ec_keys_on_the_spot_and_refuses_what_takes_long() {
    let pool = KeyPool::new(KeyType::EcP384, 8);
    assert_eq!(pool.take(Instant::now()).unwrap().key_type(), KeyType::EcP384);
    assert_eq!(*pool.ready().borrow(), usize::MAX);
    let pool = KeyPool::new(KeyType::Rsa2048, 8);
    assert_eq!(*pool.ready().borrow(), 0);
    assert_eq!(pool.take(Instant::now()).unwrap_err(), KeyError::NoneReady);
}

#[cfg(feature = "aws-lc-rs")]
#[tokio::test]
async fn who_waits_for_an_rsa_key_is_told_when_it_is_there() {
    let pool = Arc::new(KeyPool::new(KeyType::Rsa2048, 2));
    let filling = tokio::spawn(Arc::clone(&pool).fill());
    let mut ready = pool.ready();
    timeout(SOON, ready.wait_for(|ready| *ready == 2)).await.unwrap().unwrap();
    assert_eq!(pool.take(Instant::now()).unwrap().key_type(), KeyType::Rsa2048);
    filling.abort();
}

#[test]
fn debug_output_holds_no_key() {
    assert_eq!(format!("{:?}", KeyPool::new(KeyType::EcP256, 8)), "KeyPool(ec-p256, ..)");
}

async fn until(pool: &KeyPool, held: usize) {
    let all = async {
        while pool.held() < held {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, all).await.unwrap();
}
