//! The 5,000 customers, ids 1 to 5000.

use super::part;
use super::vat::COUNTRIES;
use super::zipf::Zipf;
use crate::prng::Prng;

pub const USERS: u32 = 5_000;
pub const BLOCKED: usize = 100;
pub const UNNAMED: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: u32,
    /// As the customer once typed it: capitals and all. Unique even when case is ignored.
    pub email: String,
    /// What the customer logs in with; only a hash of it belongs into a database.
    pub password: String,
    pub name: Option<String>,
    pub country: &'static str,
    /// `standard`, `silver` or `gold`.
    pub tier: &'static str,
    pub blocked: bool,
}

/// All customers in the order of their ids.
pub fn users() -> Vec<User> {
    let mut prng = part(3);
    let mut ids: Vec<u32> = (1..=USERS).collect();
    prng.shuffle(&mut ids);
    let mut special = vec![Special::None; USERS as usize + 1];
    for (place, id) in ids.iter().take(BLOCKED + UNNAMED).enumerate() {
        special[*id as usize] = if place < BLOCKED { Special::Blocked } else { Special::Unnamed };
    }
    (1..=USERS).map(|id| user(id, special[id as usize], &mut prng)).collect()
}

/// What the customer with this id logs in with.
pub fn password(id: u32) -> String {
    format!("shop-{id}")
}

/// Draws customers as they come to a shop: a few again and again, most hardly ever (zipf, exponent 0.9).
#[derive(Clone, Debug)]
pub struct Activity {
    zipf: Zipf,
    by_rank: Vec<u32>,
}

impl Activity {
    /// Over the customers `1..=users` (at least one, at most all).
    pub fn of(users: u32) -> Activity {
        let users = users.clamp(1, USERS);
        let mut by_rank: Vec<u32> = (1..=users).collect();
        // Who is active has nothing to do with how low the id is.
        part(4).shuffle(&mut by_rank);
        Activity { zipf: Zipf::new(users, 0.9), by_rank }
    }

    pub fn draw(&self, prng: &mut Prng) -> u32 {
        self.by_rank.get(self.zipf.draw(prng)).copied().unwrap_or(1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    None,
    Blocked,
    Unnamed,
}

/// Written name, and the same for an e-mail address.
const GIVEN: [(&str, &str); 20] = [
    ("Jörg", "Joerg"),
    ("Anaïs", "Anais"),
    ("Zoë", "Zoe"),
    ("Søren", "Soren"),
    ("Łukasz", "Lukasz"),
    ("Mária", "Maria"),
    ("Åsa", "Asa"),
    ("Émile", "Emile"),
    ("Ümit", "Uemit"),
    ("Anna", "Anna"),
    ("Ben", "Ben"),
    ("Clara", "Clara"),
    ("David", "David"),
    ("Elif", "Elif"),
    ("Felix", "Felix"),
    ("Greta", "Greta"),
    ("Hugo", "Hugo"),
    ("Ida", "Ida"),
    ("Jan", "Jan"),
    ("Nora", "Nora"),
];
const FAMILY: [(&str, &str); 20] = [
    ("Müller", "Mueller"),
    ("Groß", "Gross"),
    ("Núñez", "Nunez"),
    ("Brøndby", "Brondby"),
    ("Wójcik", "Wojcik"),
    ("Lefèvre", "Lefevre"),
    ("Öberg", "Oeberg"),
    ("Çelik", "Celik"),
    ("D'Angelo", "DAngelo"),
    ("van der Berg", "vanderBerg"),
    ("Schmidt", "Schmidt"),
    ("Rossi", "Rossi"),
    ("Bianchi", "Bianchi"),
    ("Keller", "Keller"),
    ("Moreau", "Moreau"),
    ("Jensen", "Jensen"),
    ("Nowak", "Nowak"),
    ("Garcia", "Garcia"),
    ("Peeters", "Peeters"),
    ("Frei", "Frei"),
];
const JAPANESE: [(&str, &str); 8] = [
    ("田中 太郎", "Taro.Tanaka"),
    ("佐藤 花子", "Hanako.Sato"),
    ("鈴木 一郎", "Ichiro.Suzuki"),
    ("高橋 愛", "Ai.Takahashi"),
    ("김민준", "Minjun.Kim"),
    ("王小明", "Xiaoming.Wang"),
    ("伊藤 健", "Ken.Ito"),
    ("李雷", "Lei.Li"),
];

fn user(id: u32, special: Special, prng: &mut Prng) -> User {
    let country = COUNTRIES[prng.index(COUNTRIES.len())].country;
    let (name, mailbox) = if country == "JP" {
        let (name, mailbox) = JAPANESE[prng.index(JAPANESE.len())];
        (name.to_owned(), mailbox.to_owned())
    } else {
        let (given, given_plain) = GIVEN[prng.index(GIVEN.len())];
        let (family, family_plain) = FAMILY[prng.index(FAMILY.len())];
        (format!("{given} {family}"), format!("{given_plain}.{family_plain}"))
    };
    let mailbox = if prng.percent(60) { mailbox.to_lowercase() } else { mailbox };
    let host = ["example.com", "example.org", "Example.net", "MAIL.example"][prng.index(4)];
    let tier = ["standard", "standard", "standard", "silver", "gold"][prng.index(5)];
    User {
        id,
        email: format!("{mailbox}.{id}@{host}"),
        password: password(id),
        name: (special != Special::Unnamed).then_some(name),
        country,
        tier,
        blocked: special == Special::Blocked,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_customers_are_as_mixed_as_was_agreed() {
        let all = users();
        assert_eq!(all, users());
        assert_eq!(all.len(), USERS as usize);
        assert_eq!(all.iter().filter(|user| user.blocked).count(), BLOCKED);
        assert_eq!(all.iter().filter(|user| user.name.is_none()).count(), UNNAMED);
        assert_eq!(all.iter().map(|user| user.country).collect::<BTreeSet<_>>().len(), COUNTRIES.len());
        let has = |wanted: &str| all.iter().any(|user| user.name.as_deref().is_some_and(|name| name.contains(wanted)));
        assert!(has("ü") && has("ß") && has("田"));
        assert!(all.iter().filter(|user| user.email.to_lowercase() != user.email).count() > 1_000);
    }

    #[test]
    fn no_two_customers_share_an_address() {
        let addresses: BTreeSet<String> = users().iter().map(|user| user.email.to_lowercase()).collect();
        assert_eq!(addresses.len(), USERS as usize);
    }

    #[test]
    fn the_most_active_customer_is_not_simply_the_first() {
        let activity = Activity::of(100);
        let mut prng = Prng::new(1);
        let mut counts = [0_u32; 101];
        for _ in 0..10_000 {
            counts[activity.draw(&mut prng) as usize] += 1;
        }
        let most = counts.iter().enumerate().max_by_key(|(_, count)| **count).map(|(id, _)| id);
        assert_ne!(most, Some(1));
        assert_eq!(counts[0], 0);
        assert!(counts.iter().filter(|count| **count > 0).count() > 90);
    }
}
