//! The derive macro of gristmill's trait `Module`, which exports and documents it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, LitStr, Result, parse_macro_input};

/// Implements `gristmill::nn::Module` for a struct whose fields are its parts, or for an enum of modules.
///
/// The trait's page has the rules.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    implement(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn implement(input: &DeriveInput) -> Result<TokenStream> {
    if let Some(attribute) = input.attrs.iter().find(|attribute| attribute.path().is_ident("module")) {
        return Err(Error::new(attribute.span(), "#[module(..)] belongs to a field"));
    }
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    let module = quote!(::gristmill::nn::Module);
    let (parts, more) = match &input.data {
        Data::Struct(data) => (of_fields(&data.fields)?, quote!()),
        Data::Enum(data) => {
            let mut variants = Vec::new();
            for variant in &data.variants {
                match &variant.fields {
                    Fields::Unnamed(fields) if fields.unnamed.len() == 1 => variants.push(&variant.ident),
                    _ => {
                        return Err(Error::new(
                            variant.span(),
                            "a variant has to hold one module: Name(Module)",
                        ));
                    }
                }
            }
            let parts = quote!(match self { #(Self::#variants(module) => #module::parts(module),)* });
            let more = quote! {
                fn describe(&self) -> ::std::string::String {
                    match self { #(Self::#variants(module) => #module::describe(module),)* }
                }

                fn identity(&self) -> (usize, &'static str) {
                    match self { #(Self::#variants(module) => #module::identity(module),)* }
                }
            };
            (parts, more)
        }
        Data::Union(_) => return Err(Error::new(name.span(), "Module is for structs and enums")),
    };
    Ok(quote! {
        #[automatically_derived]
        impl #generics #module for #name #arguments #bounds {
            fn parts(&self) -> ::gristmill::nn::Parts<'_> {
                #parts
            }

            #more
        }
    })
}

/// What a field's attributes ask for.
#[derive(Default)]
struct Options {
    skip: bool,
    flatten: bool,
    name: Option<String>,
}

fn options(field: &Field) -> Result<Options> {
    let mut options = Options::default();
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("module")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                options.skip = true;
            } else if meta.path.is_ident("flatten") {
                options.flatten = true;
            } else if meta.path.is_ident("name") {
                options.name = Some(meta.value()?.parse::<LitStr>()?.value());
            } else {
                return Err(meta.error("expected skip, flatten or name = \"..\""));
            }
            Ok(())
        })?;
        if usize::from(options.skip) + usize::from(options.flatten) + usize::from(options.name.is_some()) > 1
        {
            return Err(Error::new(attribute.span(), "skip, flatten and name exclude each other"));
        }
    }
    Ok(options)
}

/// The expression of the parts of a struct.
fn of_fields(fields: &Fields) -> Result<TokenStream> {
    let mut parts = quote!(::gristmill::nn::Parts::new());
    for (field, member) in fields.iter().zip(fields.members()) {
        let options = options(field)?;
        if options.skip {
            continue;
        }
        let name = options.name.unwrap_or_else(|| match &field.ident {
            Some(ident) => ident.to_string().trim_start_matches("r#").to_string(),
            None => quote!(#member).to_string(),
        });
        parts = match options.flatten {
            true => quote!(#parts.and(::gristmill::nn::Module::parts(&self.#member))),
            false => quote!(#parts.with(#name, &self.#member)),
        };
    }
    Ok(parts)
}
