// Brings the first key alone to place 0, by a tree reduction: enough for a list of one token, as greedy decoding reads.
// Keys are swapped, so none is lost. Same interface as `top_sort.wgsl`.
fn bring_to_front(lane: u32) {
    workgroupBarrier();
    for (var place = lane + SORT_THREADS; place < PLACES; place += SORT_THREADS) {
        if is_before(place, lane) {
            swap(place, lane);
        }
    }
    for (var half = SORT_THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half && is_before(lane + half, lane) {
            swap(lane + half, lane);
        }
    }
    workgroupBarrier();
}
