// Brings all keys into order, by a bitonic sort: 55 stages for 1024 places.
fn bring_to_front(lane: u32) {
    for (var size = 2u; size <= PLACES; size *= 2u) {
        for (var distance = size / 2u; distance > 0u; distance /= 2u) {
            workgroupBarrier();
            for (var pair = lane; pair < PLACES / 2u; pair += SORT_THREADS) {
                let low = 2u * pair - pair % distance;
                let high = low + distance;
                let is_descending = (low & size) == 0u;
                if is_before(high, low) == is_descending {
                    swap(low, high);
                }
            }
        }
    }
    workgroupBarrier();
}
