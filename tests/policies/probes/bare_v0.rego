# expect: refused
# opa: refused
package envoy.authz
allow
x if input.y
z { true }
