//! Which ports of a service share a rule, where one source asks different things of them.
//!
//! Invariant: a group allows no port and method together that was not asked for.

use std::collections::{BTreeMap, BTreeSet};

use weft_identity::DnsLabel;

use super::conditions::Grant;

/// Ports, and what a rule for them allows.
pub(super) type Groups = Vec<(BTreeSet<DnsLabel>, BTreeSet<Grant>)>;

/// The fewest groups up to `room`; more where those would allow a method on a port of which it was not asked.
pub(super) fn groups(asked: Vec<(DnsLabel, Vec<Grant>)>, room: usize) -> Groups {
    let mut groups = grouped(asked);
    while groups.len() > room {
        if !join_two(&mut groups) {
            return covered(&groups, room).unwrap_or(groups);
        }
    }
    groups
}

/// Ports of which the same is asked stand together.
fn grouped(asked: Vec<(DnsLabel, Vec<Grant>)>) -> Groups {
    let mut groups = BTreeMap::<BTreeSet<Grant>, BTreeSet<DnsLabel>>::new();
    for (port, grants) in asked {
        if !grants.is_empty() {
            let ports = groups.entry(grants.into_iter().collect()).or_default();
            ports.insert(port);
        }
    }
    let mut groups: Groups = groups
        .into_iter()
        .map(|(grants, ports)| (ports, grants))
        .collect();
    groups.sort();
    groups
}

/// Joins two groups with the same methods: a port then has paths of the other, but no method that was not seen on it.
fn join_two(groups: &mut Groups) -> bool {
    let methods = |grants: &BTreeSet<Grant>| -> BTreeSet<Box<str>> {
        grants.iter().map(|grant| grant.method.clone()).collect()
    };
    for first in 0..groups.len() {
        let same = |other: &usize| match (groups.get(first), groups.get(*other)) {
            (Some((_, one)), Some((_, other))) => methods(one) == methods(other),
            _ => false,
        };
        let Some(second) = (first + 1..groups.len()).find(same) else {
            continue;
        };
        let (ports, grants) = groups.remove(second);
        if let Some(group) = groups.get_mut(first) {
            group.0.extend(ports);
            group.1.extend(grants);
        }
        return true;
    }
    false
}

/// The same in at most `room` groups: ports share one for the methods that they have in common. `None`: no so few say it.
fn covered(groups: &Groups, room: usize) -> Option<Groups> {
    let table = Table::of(groups, room)?;
    let blocks = table.blocks();
    let chosen = (1..=room).find_map(|count| choose(&blocks, table.cells(), count))?;
    let mut taken = 0;
    let mut covered = Groups::new();
    for block in chosen.into_iter().rev() {
        covered.push(table.group(groups, block & !taken));
        taken |= block;
    }
    covered.sort();
    Some(covered)
}

/// Which groups have which methods; methods that the same groups have are one column.
struct Table {
    /// Groups as bits, and the methods.
    columns: Vec<(u64, BTreeSet<Box<str>>)>,
    rows: usize,
}

impl Table {
    /// `None`: too many for `room` blocks. A row is told from others by the blocks that it is in, and so is a column.
    fn of(groups: &Groups, room: usize) -> Option<Self> {
        let most = (1 << room.min(3)) - 1;
        if groups.len() > most {
            return None;
        }
        let mut rows_of = BTreeMap::<&Box<str>, u64>::new();
        for (row, (_, grants)) in groups.iter().enumerate() {
            for grant in grants {
                *rows_of.entry(&grant.method).or_default() |= 1 << row;
            }
        }
        let mut columns = BTreeMap::<u64, BTreeSet<Box<str>>>::new();
        for (method, rows) in rows_of {
            columns.entry(rows).or_default().insert(method.clone());
        }
        (columns.len() <= most).then(|| Self {
            columns: columns.into_iter().collect(),
            rows: groups.len(),
        })
    }

    /// Every cell that was asked for.
    fn cells(&self) -> u64 {
        let columns = self.columns.iter().enumerate();
        let cells = columns.map(|(column, (rows, _))| self.block(*rows, 1 << column));
        cells.fold(0, |all, of_column| all | of_column)
    }

    /// The blocks of rows and columns that hold nothing but cells that were asked for, and cannot grow; the largest first.
    fn blocks(&self) -> Vec<u64> {
        let mut blocks = BTreeSet::new();
        for rows in 1..1_u64 << self.rows {
            let columns = self.columns.iter().enumerate();
            let common = columns.filter(|(_, (of_column, _))| rows & !of_column == 0);
            let (all, columns) = common.fold((u64::MAX, 0), |(all, columns), (at, (rows, _))| {
                (all & rows, columns | 1 << at)
            });
            if columns != 0 {
                blocks.insert(self.block(all, columns));
            }
        }
        let mut blocks: Vec<u64> = blocks.into_iter().collect();
        blocks.sort_by_key(|block| (std::cmp::Reverse(block.count_ones()), *block));
        blocks
    }

    fn block(&self, rows: u64, columns: u64) -> u64 {
        let in_rows = (0..self.rows).filter(|row| rows >> row & 1 == 1);
        in_rows.fold(0, |block, row| block | columns << (row * WIDTH))
    }

    fn group(&self, groups: &Groups, block: u64) -> (BTreeSet<DnsLabel>, BTreeSet<Grant>) {
        let mut group = (BTreeSet::new(), BTreeSet::new());
        for (row, (ports, grants)) in groups.iter().enumerate() {
            for (column, (_, methods)) in self.columns.iter().enumerate() {
                if block >> (row * WIDTH + column) & 1 == 1 {
                    let of_column = grants.iter().filter(|g| methods.contains(&g.method));
                    group.0.extend(ports.iter().cloned());
                    group.1.extend(of_column.cloned());
                }
            }
        }
        group
    }
}

/// So many blocks that hold all of these cells together.
fn choose(blocks: &[u64], cells: u64, count: usize) -> Option<Vec<u64>> {
    if cells == 0 {
        return Some(Vec::new());
    }
    let first = 1 << cells.trailing_zeros();
    let left = count.checked_sub(1)?;
    let mut holding = blocks.iter().filter(|block| *block & first != 0);
    holding.find_map(|block| {
        let mut chosen = choose(blocks, cells & !block, left)?;
        chosen.push(*block);
        Some(chosen)
    })
}

/// Columns at most.
const WIDTH: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Cell = (usize, usize);

    fn port(at: usize) -> DnsLabel {
        format!("p{at}").parse().unwrap()
    }

    fn asked(cells: &BTreeSet<Cell>) -> Vec<(DnsLabel, Vec<Grant>)> {
        let mut asked = BTreeMap::<usize, Vec<Grant>>::new();
        for (row, column) in cells {
            asked.entry(*row).or_default().push(Grant {
                host: None,
                path: format!("/of-{row}").into(),
                method: format!("M{column}").into(),
                upgrades: BTreeSet::new(),
            });
        }
        asked
            .into_iter()
            .map(|(at, grants)| (port(at), grants))
            .collect()
    }

    /// Each port with each method that the groups allow on it.
    fn allowed(groups: &Groups) -> BTreeSet<(DnsLabel, Box<str>)> {
        let pairs = groups.iter().flat_map(|(ports, grants)| {
            let pairs = |port: &DnsLabel| {
                let port = port.clone();
                grants
                    .iter()
                    .map(move |grant| (port.clone(), grant.method.clone()))
            };
            ports.iter().flat_map(pairs).collect::<Vec<_>>()
        });
        pairs.collect()
    }

    /// Whether any so many blocks hold just these cells, tried one by one.
    fn can_be_said(cells: &BTreeSet<Cell>, room: usize) -> bool {
        let rows: BTreeSet<usize> = cells.iter().map(|(row, _)| *row).collect();
        let columns: BTreeSet<usize> = cells.iter().map(|(_, column)| *column).collect();
        let blocks: Vec<BTreeSet<Cell>> = (1..1_usize << 5)
            .map(|subset| {
                let rows: Vec<usize> = rows
                    .iter()
                    .copied()
                    .filter(|row| subset >> row & 1 == 1)
                    .collect();
                let is_common =
                    |column: &&usize| rows.iter().all(|row| cells.contains(&(*row, **column)));
                columns
                    .iter()
                    .filter(is_common)
                    .flat_map(|column| rows.iter().map(|row| (*row, *column)))
                    .collect()
            })
            .collect();
        fn holds(blocks: &[BTreeSet<Cell>], left: &BTreeSet<Cell>, room: usize) -> bool {
            left.is_empty()
                || room > 0
                    && blocks.iter().any(|block| {
                        let after: BTreeSet<Cell> = left.difference(block).copied().collect();
                        after.len() < left.len() && holds(blocks, &after, room - 1)
                    })
        }
        holds(&blocks, cells, room)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn as_few_groups_as_can_be_and_no_port_with_a_method_that_was_not_asked_of_it(
            cells in proptest::collection::btree_set((0..5_usize, 0..4_usize), 1..14),
            room in 2..=3_usize,
        ) {
            let asked = asked(&cells);
            let groups = groups(asked, room);
            let wanted: BTreeSet<_> = cells
                .iter()
                .map(|(row, column)| (port(*row), format!("M{column}").into_boxed_str()))
                .collect();
            prop_assert_eq!(allowed(&groups), wanted);
            prop_assert_eq!(groups.len() <= room, can_be_said(&cells, room), "{:?}", groups);
        }
    }
}
