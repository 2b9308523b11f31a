//! The file with the cookies of displays, `Xau(3)`: entries of family, address, display number, name and data of the
//! authorisation, all numbers with the high byte first. Pure.

/// Family of addresses: IPv4, four bytes.
pub const INTERNET: u16 = 0;
/// Family of addresses: IPv6, sixteen bytes.
pub const INTERNET6: u16 = 6;
/// Family of addresses: the name of the host itself.
pub const LOCAL: u16 = 256;
/// Family of addresses: any.
const WILD: u16 = 65535;

/// Where a display may be said to be.
pub type Address = (u16, Vec<u8>);

/// The first cookie of this kind for a display at one of these addresses. A file that breaks off is read as far as
/// it goes.
pub fn find(file: &[u8], addresses: &[Address], display: u32, protocol: &[u8]) -> Option<Vec<u8>> {
    let number = display.to_string();
    let mut rest = file;
    loop {
        let family = u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        let mut field = || {
            let len = u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
            take(&mut rest, usize::from(len))
        };
        let (address, its, name, data) = (field()?, field()?, field()?, field()?);
        let here = family == WILD || addresses.iter().any(|(f, a)| *f == family && a == address);
        if here && (its.is_empty() || its == number.as_bytes()) && name == protocol {
            return Some(data.to_vec());
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(n)?;
    *rest = left;
    Some(taken)
}
