//! The tables, as they have grown.

/// Money is integer cents; dates that people read are RFC 3339 text in UTC, deadlines are milliseconds since 1970;
/// a boolean is 0 or 1.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS users (
        id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE, pw_hash TEXT NOT NULL, name TEXT,
        country TEXT NOT NULL, tier TEXT NOT NULL, blocked INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS addresses (
        user_id INTEGER PRIMARY KEY REFERENCES users, street TEXT NOT NULL, city TEXT NOT NULL,
        postcode TEXT NOT NULL, country TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS sessions (
        sid TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users, csrf TEXT, expires_at INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS products (
        sku TEXT PRIMARY KEY, name TEXT, category TEXT NOT NULL, tax_class TEXT NOT NULL,
        active INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS products_by_category ON products (category, sku);
    CREATE TABLE IF NOT EXISTS prices (
        sku TEXT NOT NULL REFERENCES products, currency TEXT NOT NULL, cents INTEGER NOT NULL, valid_from TEXT NOT NULL,
        PRIMARY KEY (sku, currency, valid_from)) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS tier_prices (
        sku TEXT NOT NULL REFERENCES products, min_qty INTEGER NOT NULL, cents INTEGER NOT NULL,
        PRIMARY KEY (sku, min_qty)) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS coupons (
        code TEXT PRIMARY KEY, percent INTEGER NOT NULL, min_subtotal_cents INTEGER NOT NULL, expires_at INTEGER)
        STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS carts (
        id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users, updated_at TEXT NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS carts_by_age ON carts (updated_at);
    CREATE TABLE IF NOT EXISTS cart_items (
        cart_id INTEGER NOT NULL REFERENCES carts, sku TEXT NOT NULL REFERENCES products, qty INTEGER NOT NULL,
        PRIMARY KEY (cart_id, sku)) STRICT;
    CREATE TABLE IF NOT EXISTS inventory (
        sku TEXT PRIMARY KEY REFERENCES products, on_hand INTEGER NOT NULL CHECK (on_hand >= 0),
        reserved INTEGER NOT NULL CHECK (reserved BETWEEN 0 AND on_hand)) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reservations (
        id INTEGER PRIMARY KEY, order_ref TEXT NOT NULL, state TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS reservations_by_age ON reservations (expires_at, state);
    CREATE TABLE IF NOT EXISTS reservation_items (
        reservation_id INTEGER NOT NULL REFERENCES reservations, sku TEXT NOT NULL REFERENCES inventory,
        qty INTEGER NOT NULL, PRIMARY KEY (reservation_id, sku)) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS payments (
        id INTEGER PRIMARY KEY, order_no INTEGER, order_ref TEXT NOT NULL, cents INTEGER NOT NULL, currency TEXT NOT NULL,
        card_last4 TEXT NOT NULL, status TEXT NOT NULL, psp_ref TEXT NOT NULL, created_at TEXT NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS payments_by_order ON payments (order_no);
    CREATE TABLE IF NOT EXISTS orders (
        order_no INTEGER PRIMARY KEY CHECK (order_no BETWEEN 1 AND 9999999), -- above, the order service counts
        user_id INTEGER NOT NULL REFERENCES users, status TEXT NOT NULL, currency TEXT NOT NULL,
        subtotal INTEGER NOT NULL, discount INTEGER NOT NULL,
        tax INTEGER NOT NULL, total INTEGER NOT NULL, placed_at TEXT NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id, order_no);
    CREATE INDEX IF NOT EXISTS orders_by_day ON orders (placed_at);
    CREATE TABLE IF NOT EXISTS order_items (
        order_no INTEGER NOT NULL REFERENCES orders, line INTEGER NOT NULL, sku TEXT NOT NULL, qty INTEGER NOT NULL,
        unit_cents INTEGER NOT NULL, PRIMARY KEY (order_no, line)) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS emails_sent (
        id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users, order_no INTEGER, subject TEXT NOT NULL,
        sent_at TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS newsletter (email TEXT PRIMARY KEY COLLATE NOCASE, since TEXT NOT NULL) STRICT;
";
