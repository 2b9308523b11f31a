//! A file with one cookie, as `Xau(3)` reads it: entries of family, address, display number, name and data of the
//! authorisation, all numbers with the high byte first. Pure.

/// `FamilyLocal`: the address is the name of the host. What programs look for when they connect to `localhost`.
const LOCAL: u16 = 256;
/// `FamilyWild`: whatever the address. For those that do not take `localhost` for the host itself.
const WILD: u16 = 65535;

/// The content of the file.
pub(super) fn file(host: &[u8], display: u16, name: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (family, address) in [(LOCAL, host), (WILD, &[][..])] {
        out.extend_from_slice(&family.to_be_bytes());
        for field in [address, display.to_string().as_bytes(), name.as_bytes(), data] {
            // A field that is too long for its number is no cookie of ours.
            let field = &field[..field.len().min(usize::from(u16::MAX))];
            out.extend_from_slice(&(field.len() as u16).to_be_bytes());
            out.extend_from_slice(field);
        }
    }
    out
}
