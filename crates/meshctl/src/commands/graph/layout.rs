//! Where the nodes of a picture stand: in layers, callers to the left of whom they call, with few crossings.
//!
//! A call that closes a circle is taken backwards. A call over several layers gets a place in each, so that it goes round what stands there.

use std::collections::BTreeSet;

use super::Graph;

/// A picture of so many layers.
pub(super) struct Layout {
    /// Places from top to bottom, by layer from left to right.
    pub(super) layers: Vec<Vec<Place>>,
    /// The places that each edge of the graph goes by, from its caller to whom it calls.
    pub(super) ways: Vec<Vec<(usize, usize)>>,
}

/// What stands in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Node(usize),
    /// Where the edge passes.
    Pass(usize),
}

impl Layout {
    pub(super) fn of(graph: &Graph) -> Self {
        let forward = forward_edges(graph);
        let layer_of = layers(graph, &forward);
        let depth = layer_of.iter().max().map_or(0, |deepest| deepest + 1);
        let mut layers: Vec<Vec<Place>> = vec![Vec::new(); depth];
        for (node, layer) in layer_of.iter().enumerate() {
            layers[*layer].push(Place::Node(node));
        }
        for (number, edge) in graph.edges.iter().enumerate() {
            let (low, high) = span(layer_of[edge.from], layer_of[edge.to]);
            for layer in layers.iter_mut().take(high).skip(low + 1) {
                layer.push(Place::Pass(number));
            }
        }
        let neighbours = |place: Place, layer: usize, of: &[Vec<Place>]| {
            neighbours_in(graph, place, layer, of, &layer_of)
        };
        for sweep in 0..SWEEPS {
            let order: Vec<usize> = if sweep % 2 == 0 {
                (1..depth).collect()
            } else {
                (0..depth.saturating_sub(1)).rev().collect()
            };
            for at in order {
                let beside = if sweep % 2 == 0 { at - 1 } else { at + 1 };
                let mut keyed: Vec<(usize, usize, Place)> = layers[at]
                    .iter()
                    .enumerate()
                    .map(|(now, place)| {
                        let places = neighbours(*place, beside, &layers);
                        (barycentre(&places, now), now, *place)
                    })
                    .collect();
                keyed.sort_unstable();
                layers[at] = keyed.into_iter().map(|(_, _, place)| place).collect();
            }
        }
        let ways = ways(graph, &layer_of, &layers);
        Self { layers, ways }
    }
}

/// Whether each edge goes from left to right. Those that close a circle, found in the order of names, do not.
fn forward_edges(graph: &Graph) -> Vec<bool> {
    let mut forward = vec![true; graph.edges.len()];
    let (mut done, mut open) = (BTreeSet::new(), BTreeSet::new());
    let called: BTreeSet<usize> = graph.edges.iter().map(|edge| edge.to).collect();
    // First those whom nobody calls: what they call is to their right.
    let (roots, others): (Vec<usize>, Vec<usize>) =
        (0..graph.nodes.len()).partition(|node| !called.contains(node));
    for start in roots.into_iter().chain(others) {
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            if next == 0 && !done.contains(&node) {
                open.insert(node);
            }
            let edge = graph
                .edges
                .iter()
                .enumerate()
                .filter(|(_, edge)| edge.from == node)
                .nth(next);
            match edge {
                Some((number, edge)) if !done.contains(&node) => {
                    stack.push((node, next + 1));
                    if open.contains(&edge.to) {
                        forward[number] = false;
                    } else if !done.contains(&edge.to) {
                        stack.push((edge.to, 0));
                    }
                }
                Some(_) | None => {
                    open.remove(&node);
                    done.insert(node);
                }
            }
        }
    }
    forward
}

/// Each node as far left as those who call it allow.
fn layers(graph: &Graph, forward: &[bool]) -> Vec<usize> {
    let mut layers = vec![0; graph.nodes.len()];
    // The longest way has no more steps than there are nodes.
    for _ in 0..graph.nodes.len() {
        let mut has_moved = false;
        for (edge, _) in graph.edges.iter().zip(forward).filter(|(_, is)| **is) {
            if layers[edge.to] <= layers[edge.from] {
                layers[edge.to] = layers[edge.from] + 1;
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
    layers
}

/// Positions, in the layer beside it, of what a place is joined with.
fn neighbours_in(
    graph: &Graph,
    place: Place,
    layer: usize,
    layers: &[Vec<Place>],
    layer_of: &[usize],
) -> Vec<usize> {
    let edges = graph.edges.iter().enumerate().filter(|(number, edge)| {
        place == Place::Pass(*number)
            || place == Place::Node(edge.from)
            || place == Place::Node(edge.to)
    });
    let joined = edges.filter_map(|(number, edge)| {
        let (low, high) = span(layer_of[edge.from], layer_of[edge.to]);
        if layer == layer_of[edge.from] {
            Some(Place::Node(edge.from))
        } else if layer == layer_of[edge.to] {
            Some(Place::Node(edge.to))
        } else if (low..high).contains(&layer) {
            Some(Place::Pass(number))
        } else {
            None
        }
    });
    joined
        .filter_map(|other| layers[layer].iter().position(|place| *place == other))
        .collect()
}

/// The middle of what it is joined with, in parts of a place; what is joined with nothing stays.
fn barycentre(places: &[usize], now: usize) -> usize {
    match places.len() {
        0 => now * FINENESS,
        count => places.iter().sum::<usize>() * FINENESS / count,
    }
}

fn ways(graph: &Graph, layer_of: &[usize], layers: &[Vec<Place>]) -> Vec<Vec<(usize, usize)>> {
    let find = |layer: usize, place: Place| {
        let at = layers[layer].iter().position(|other| *other == place);
        (layer, at.unwrap_or_default())
    };
    graph
        .edges
        .iter()
        .enumerate()
        .map(|(number, edge)| {
            let (from, to) = (layer_of[edge.from], layer_of[edge.to]);
            let (low, high) = span(from, to);
            let mut passes: Vec<_> = (low + 1..high)
                .map(|layer| find(layer, Place::Pass(number)))
                .collect();
            if from > to {
                passes.reverse();
            }
            let mut way = vec![find(from, Place::Node(edge.from))];
            way.extend(passes);
            way.push(find(to, Place::Node(edge.to)));
            way
        })
        .collect()
}

fn span(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

const SWEEPS: usize = 8;
const FINENESS: usize = 1000;
