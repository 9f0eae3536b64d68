# expect: refused
# opa: refused
package envoy.authz

roles := {"admin": true}

allow if not roles.amdin
